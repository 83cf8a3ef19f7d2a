//! Requests to the agent, over its socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::workers::lower_priority;

/// Timeout of a response.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Gets the JSON at `path`.
pub(super) fn get(socket: &Path, path: &str) -> Result<Value> {
    let mut stream = connect(socket, path)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no response to {path}");
    };
    if !head.starts_with("HTTP/1.0 200") {
        bail!("{path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}

fn connect(socket: &Path, path: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).context("cannot connect to the agent")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0 responses are not chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: soak\r\n\r\n")?;
    Ok(stream)
}

/// Threads that repeatedly request all paths of the API.
pub(super) struct Hammer {
    stop: Arc<AtomicBool>,
    succeeded: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// Paths that are requested in turns.
const PATHS: [&str; 6] = [
    "/v1/findings?limit=1000",
    "/v1/processes?limit=50",
    "/metrics",
    "/v1/health",
    "/v1/summary",
    "/v1/processes/1/fds",
];

impl Hammer {
    pub(super) fn start(socket: &Path, threads: usize) -> Self {
        let mut hammer = Self {
            stop: Arc::default(),
            succeeded: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        for first in 0..threads {
            let socket = socket.to_owned();
            let stop = Arc::clone(&hammer.stop);
            let (succeeded, failed) = (Arc::clone(&hammer.succeeded), Arc::clone(&hammer.failed));
            hammer.threads.push(thread::spawn(move || {
                lower_priority();
                for path in PATHS.iter().cycle().skip(first) {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let mut bytes = Vec::new();
                    let response = connect(&socket, path)
                        .and_then(|mut stream| Ok(stream.read_to_end(&mut bytes)?));
                    let counter = match response {
                        Ok(_)
                            if bytes.starts_with(b"HTTP/1.1 ")
                                || bytes.starts_with(b"HTTP/1.0 ") =>
                        {
                            &succeeded
                        }
                        _ => &failed,
                    };
                    counter.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            }));
        }
        hammer
    }

    /// Stops the threads. Returns the number of successful and of failed requests.
    pub(super) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        (self.succeeded.load(Relaxed), self.failed.load(Relaxed))
    }
}

/// Fields of descriptors that are not checked and take most of the memory.
const IGNORED: [&str; 4] = ["stack", "closed_stack", "around", "chain"];

/// Collects the agent's events.
pub(super) struct Events {
    thread: JoinHandle<Vec<Value>>,
}

impl Events {
    /// Starts to collect the events of the process `pid`, and of paths that start with `prefix`.
    pub(super) fn read(socket: &Path, prefix: PathBuf, pid: u32) -> Result<Self> {
        let stream = connect(socket, "/v1/events?format=lines")?;
        stream.set_read_timeout(None)?;
        let wanted = [
            prefix.display().to_string(),
            format!("\"pid\":{pid},"),
            "\"dropped\"".to_owned(),
        ];
        let thread = thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            let lines = lines.filter(|line| wanted.iter().any(|wanted| line.contains(wanted)));
            lines.filter_map(|line| event(&line)).collect()
        });
        Ok(Self { thread })
    }

    /// Returns all events, once the agent has exited.
    pub(super) fn all(self) -> Vec<Value> {
        self.thread.join().unwrap_or_default()
    }
}

/// Parses a line without the ignored fields.
fn event(line: &str) -> Option<Value> {
    let mut event: Value = serde_json::from_str(line).ok()?;
    for list in ["fds", "closed"] {
        let descriptors = event.get_mut(list).and_then(Value::as_array_mut);
        for descriptor in descriptors.into_iter().flatten() {
            if let Some(descriptor) = descriptor.as_object_mut() {
                for name in IGNORED {
                    descriptor.remove(name);
                }
            }
        }
    }
    Some(event)
}
