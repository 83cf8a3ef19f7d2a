//! Notifications to systemd, if it started the agent: readiness, status and watchdog.
//!
//! The watchdog is fed only while the live loop increments a counter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::logging::Logging;

/// Interval of the status line.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// Length limit of the status line: characters.
const MAX_STATUS: usize = 512;

/// Reports that the agent is ready: all processes are followed.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Reports that the configuration is being reloaded. [`ready`] reports the end.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("cannot read the clock for systemd: {error}"),
    }
}

/// Reports that the agent is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Sets the status line.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// Sends a notification. Does nothing without systemd; errors are not fatal.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Replaces control characters: systemd parses each line as an assignment.
fn one_line(text: &str) -> String {
    let lines = text.chars().take(MAX_STATUS);
    lines
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
}

/// Detects whether the counter of the live loop changes.
#[derive(Debug)]
struct Heartbeat {
    counter: Arc<AtomicU64>,
    last: Option<u64>,
}

impl Heartbeat {
    fn has_advanced(&mut self) -> bool {
        let count = self.counter.load(Relaxed);
        self.last.replace(count) != Some(count)
    }
}

/// Feeds the watchdog while `heartbeat` changes, sets the status line to `status_text` once a minute, and flushes the
/// folded messages of the log, until `stop`.
pub async fn watch(
    heartbeat: Arc<AtomicU64>,
    status_text: impl Fn() -> String,
    logging: Option<Logging>,
    mut stop: watch::Receiver<bool>,
) {
    let watchdog = sd_notify::watchdog_enabled().map(|within| within / 2);
    let mut watched = Heartbeat {
        counter: heartbeat,
        last: None,
    };
    let every = watchdog
        .unwrap_or(STATUS_INTERVAL)
        .max(Duration::from_millis(1));
    let mut watchdog_ticks = interval_at(Instant::now(), every);
    watchdog_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut minutes = interval_at(Instant::now() + STATUS_INTERVAL, STATUS_INTERVAL);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = watchdog_ticks.tick(), if watchdog.is_some() => {
                if watched.has_advanced() {
                    notify(&[NotifyState::Watchdog]);
                } else {
                    tracing::warn!("event loop stalled: not feeding the watchdog");
                }
            }
            _ = minutes.tick() => {
                status(&status_text());
                if let Some(logging) = &logging {
                    logging.tick();
                }
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixDatagram, process::Command};

    use super::*;

    #[test]
    fn stalled_counter_is_detected() {
        let counter = Arc::new(AtomicU64::new(0));
        let mut watched = Heartbeat {
            counter: Arc::clone(&counter),
            last: None,
        };
        assert!(watched.has_advanced());
        assert!(!watched.has_advanced());
        counter.fetch_add(1, Relaxed);
        assert!(watched.has_advanced());
    }

    #[test]
    fn status_cannot_contain_assignments() {
        assert_eq!(one_line("a\nREADY=1\tb"), "a READY=1 b");
        assert_eq!(one_line(&"x".repeat(9999)).len(), MAX_STATUS);
    }

    /// Runs only as a child of `notifications_reach_systemd`, with an environment of its own.
    #[test]
    fn as_systemd_starts_it() {
        if env::var_os("FDWATCH_TEST_NOTIFY").is_none() {
            return;
        }
        ready("watching 63 descriptors\nREADY=0");
        reloading();
        ready("again");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let heartbeat = Arc::new(AtomicU64::new(0));
            let (stop, stopped) = watch::channel(false);
            // The counter does not change, so the watchdog is fed once.
            let end = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stop.send(true).unwrap();
            };
            tokio::join!(watch(heartbeat, String::new, None, stopped), end);
        });
        stopping();
    }

    #[test]
    fn notifications_reach_systemd() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let run = |path: &std::path::Path| {
            let mut command = Command::new(env::current_exe().unwrap());
            command
                .args(["--exact", "systemd::tests::as_systemd_starts_it"])
                .env("FDWATCH_TEST_NOTIFY", "1")
                .env("NOTIFY_SOCKET", path)
                .env("WATCHDOG_USEC", "100000");
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(&path);
        let next = || {
            let mut buffer = [0; 4096];
            let count = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..count].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\nSTATUS=watching 63 descriptors READY=0\n");
        let reloading = next();
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(usec.unwrap().trim_end().parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "READY=1\nSTATUS=again\n");
        assert_eq!(next(), "WATCHDOG=1\n");
        assert_eq!(next(), "STOPPING=1\nSTATUS=stopping\n");
        // Without a listener nothing happens.
        drop(socket);
        fs::remove_file(&path).unwrap();
        run(&path);
    }
}
