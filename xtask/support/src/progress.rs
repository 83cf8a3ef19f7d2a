//! A progress line on a terminal: the current activity and its duration.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Updates the line every second until it is dropped. Prints nothing unless standard error is a terminal.
#[derive(Debug)]
pub struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Starts the line for `what`, such as `booting 2 kernels`.
    pub fn start(what: impl Into<String>) -> Self {
        if !is_terminal() {
            return Self(None);
        }
        let (end, ended) = channel();
        let (what, began) = (what.into(), Instant::now());
        let thread = thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let line = line(&what, began.elapsed());
                // A closed terminal needs no progress line.
                let _ = write!(io::stderr(), "\r{line}\x1b[K\r");
            }
            let _ = write!(io::stderr(), "\r\x1b[K");
        });
        Self(Some((end, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// Returns whether standard error is a terminal that can overwrite a line.
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
    fn line_shows_whole_seconds() {
        let line = line("booting 2 kernels", Duration::from_millis(3_900));
        assert_eq!(line, "xtask: booting 2 kernels: 3 s ...");
    }
}
