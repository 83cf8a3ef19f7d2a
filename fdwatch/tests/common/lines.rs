//! What a process writes, line by line, with a limit to how long is waited for the next.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{self, Receiver},
    thread,
};

use super::DEADLINE;

/// See the module.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    /// Of what is read from `from`.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next one: none after the last, or if it does not come in time.
    pub(crate) fn next(&self) -> Option<String> {
        self.0.recv_timeout(DEADLINE).ok()
    }

    /// All that are still to come, up to the end.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
