//! Shows on a terminal, in place, that something goes on and for how long. A pipe gets nothing of it. What
//! goes on is not known here.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// It is shown as long as this is there.
#[derive(Debug)]
pub(crate) struct Waiting(Option<(Sender<()>, JoinHandle<()>)>);

impl Waiting {
    /// Something goes on from now on.
    pub(crate) fn start(what: impl Into<String>) -> Self {
        if !is_terminal() {
            return Self(None);
        }
        let (end, ended) = channel();
        let (what, began) = (what.into(), Instant::now());
        let shown = thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let line = line(&what, began.elapsed());
                // Where it cannot be shown no one looks.
                let _ = write!(io::stderr(), "\r{line}\x1b[K\r");
            }
            let _ = write!(io::stderr(), "\r\x1b[K");
        });
        Self(Some((end, shown)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, shown)) = self.0.take() {
            drop(end);
            let _ = shown.join();
        }
    }
}

/// Whether standard error is a terminal on which a line can be written over.
pub(crate) fn is_terminal() -> bool {
    let is_dumb = env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    !is_dumb && io::stderr().is_terminal()
}

fn line(what: &str, time: Duration) -> String {
    format!("xtask: {what}: {} s ...", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_shown() {
        let line = line("boots 2 kernels", Duration::from_millis(3_900));
        assert_eq!(line, "xtask: boots 2 kernels: 3 s ...");
    }
}
