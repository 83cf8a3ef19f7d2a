//! Says to systemd how the agent is, if systemd wants to know.
//!
//! Knows nothing of what the agent does: that it lives is proven by a counter that the live loop
//! counts up, and what it is about is handed in as words.

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

/// How often systemd is told what the agent is about.
const STATUS: Duration = Duration::from_secs(60);

/// Characters of what it is told.
const MAX_STATUS: usize = 512;

/// All is followed from here on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// The configuration is read anew. [`ready`] says when that is done.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("cannot read the clock for systemd: {error}"),
    }
}

/// It is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// What it is about.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&one_line(status))]);
}

/// Where no one wants to know, nothing happens; where it cannot be said, that is no reason to end.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Lines are assignments to systemd.
fn one_line(text: &str) -> String {
    let lines = text.chars().take(MAX_STATUS);
    lines
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
}

/// Whether something has come on since it was looked at last.
#[derive(Debug)]
struct Heart {
    beats: Arc<AtomicU64>,
    last: Option<u64>,
}

impl Heart {
    fn has_beaten(&mut self) -> bool {
        let beats = self.beats.load(Relaxed);
        self.last.replace(beats) != Some(beats)
    }
}

/// Tells systemd that the agent lives, for as long as `heartbeat` is counted up, and what it is about
/// once a minute, until it is to `stop`. Where no one wants to know, only the log is looked after.
pub async fn watch(
    heartbeat: Arc<AtomicU64>,
    words: impl Fn() -> String,
    logging: Option<Logging>,
    mut stop: watch::Receiver<bool>,
) {
    let watchdog = sd_notify::watchdog_enabled().map(|within| within / 2);
    let mut heart = Heart {
        beats: heartbeat,
        last: None,
    };
    let every = watchdog.unwrap_or(STATUS).max(Duration::from_millis(1));
    let mut beats = interval_at(Instant::now(), every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut minutes = interval_at(Instant::now() + STATUS, STATUS);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick(), if watchdog.is_some() => {
                if heart.has_beaten() {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    tracing::warn!("the live loop does not come on; systemd is not told that it does");
                }
            }
            _ = minutes.tick() => {
                status(&words());
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
    fn a_heart_that_stands_still_is_seen() {
        let beats = Arc::new(AtomicU64::new(0));
        let mut heart = Heart {
            beats: Arc::clone(&beats),
            last: None,
        };
        assert!(heart.has_beaten());
        assert!(!heart.has_beaten());
        beats.fetch_add(1, Relaxed);
        assert!(heart.has_beaten());
    }

    #[test]
    fn a_status_cannot_be_another_assignment() {
        assert_eq!(one_line("a\nREADY=1\tb"), "a READY=1 b");
        assert_eq!(one_line(&"x".repeat(9999)).len(), MAX_STATUS);
    }

    /// What this test does when it is run by the other one: with an environment of its own.
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
            // It stands still after the first look: only one is told.
            let end = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stop.send(true).unwrap();
            };
            tokio::join!(watch(heartbeat, String::new, None, stopped), end);
        });
        stopping();
    }

    #[test]
    fn systemd_is_told_how_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let run = |path: &std::path::Path| {
            let mut command = Command::new(env::current_exe().unwrap());
            command
                .args(["--exact", "agent::systemd::tests::as_systemd_starts_it"])
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
        // No one is there any more: nothing happens.
        drop(socket);
        fs::remove_file(&path).unwrap();
        run(&path);
    }
}
