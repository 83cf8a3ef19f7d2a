//! Lines that a process writes, with a time limit for each.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{self, Receiver},
    thread,
};

use crate::DEADLINE;

/// Lines read by a thread in the background.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Starts to read lines from `from`.
    pub fn of(from: impl Read + Send + 'static) -> Self {
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

    /// Returns the next line; `None` after the last line or after [`DEADLINE`].
    pub fn next(&self) -> Option<String> {
        self.0.recv_timeout(DEADLINE).ok()
    }

    /// Returns all lines until the end.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
