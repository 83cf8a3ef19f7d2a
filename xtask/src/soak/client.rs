//! Asks the agent, over its socket.

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

use super::workers::give_way;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The JSON that is at `path`.
pub(super) fn get(socket: &Path, path: &str) -> Result<Value> {
    let mut stream = connect(socket, path)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no answer to {path}");
    };
    if !head.starts_with("HTTP/1.0 200") {
        bail!("{path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}

fn connect(socket: &Path, path: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).context("the agent does not listen")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // In HTTP/1.0 answers come in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: soak\r\n\r\n")?;
    Ok(stream)
}

/// Threads that ask for all there is, as fast as they are answered.
pub(super) struct Hammer {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// What is asked for, over and over.
const ASKED: [&str; 6] = [
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
            answered: Arc::default(),
            refused: Arc::default(),
            threads: Vec::new(),
        };
        for first in 0..threads {
            let socket = socket.to_owned();
            let stop = Arc::clone(&hammer.stop);
            let (answered, refused) = (Arc::clone(&hammer.answered), Arc::clone(&hammer.refused));
            hammer.threads.push(thread::spawn(move || {
                give_way();
                for path in ASKED.iter().cycle().skip(first) {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let mut bytes = Vec::new();
                    let asked = connect(&socket, path)
                        .and_then(|mut stream| Ok(stream.read_to_end(&mut bytes)?));
                    let counter = match asked {
                        Ok(_)
                            if bytes.starts_with(b"HTTP/1.1 ")
                                || bytes.starts_with(b"HTTP/1.0 ") =>
                        {
                            &answered
                        }
                        _ => &refused,
                    };
                    counter.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            }));
        }
        hammer
    }

    /// Ends them: how many requests were answered, and how many were not.
    pub(super) fn end(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        (self.answered.load(Relaxed), self.refused.load(Relaxed))
    }
}

/// Parts of a finding that nobody asks for here, and that take most of its room.
const LEFT_OUT: [&str; 4] = ["stack", "closed_stack", "around", "chain"];

/// Reads all that is told, into a list.
pub(super) struct Events {
    told: JoinHandle<Vec<Value>>,
}

impl Events {
    /// From here on: of the process `pid`, and of the paths that begin with `about`.
    pub(super) fn read(socket: &Path, about: PathBuf, pid: u32) -> Result<Self> {
        let stream = connect(socket, "/v1/events?format=lines")?;
        stream.set_read_timeout(None)?;
        let wanted = [
            about.display().to_string(),
            format!("\"pid\":{pid},"),
            "\"dropped\"".to_owned(),
        ];
        let told = thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            let lines = lines.filter(|line| wanted.iter().any(|wanted| line.contains(wanted)));
            lines.filter_map(|line| event(&line)).collect()
        });
        Ok(Self { told })
    }

    /// All of it, when the agent has ended.
    pub(super) fn all(self) -> Vec<Value> {
        self.told.join().unwrap_or_default()
    }
}

/// A line of the events, without what is left out.
fn event(line: &str) -> Option<Value> {
    let mut event: Value = serde_json::from_str(line).ok()?;
    for list in ["fds", "closed"] {
        let descriptors = event.get_mut(list).and_then(Value::as_array_mut);
        for descriptor in descriptors.into_iter().flatten() {
            if let Some(descriptor) = descriptor.as_object_mut() {
                for name in LEFT_OUT {
                    descriptor.remove(name);
                }
            }
        }
    }
    Some(event)
}
