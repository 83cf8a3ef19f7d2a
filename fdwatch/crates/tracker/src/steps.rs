//! Steps of the start, shown in place on standard error if that is a terminal.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

/// What is done until there is something to watch: it may take a while where there are many
/// descriptors, or the kernel has much to verify. In the same place.
pub struct Steps {
    is_wanted: bool,
    is_shown: bool,
}

impl Steps {
    pub fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted: is_wanted && stderr_is_terminal(),
            is_shown: false,
        }
    }

    pub fn show(&mut self, what: &str) {
        if self.is_wanted {
            let _ = write!(io::stderr().lock(), "\r{what} ...\x1b[K\r");
            self.is_shown = true;
        }
    }

    /// What was shown is done, and something else may stand there.
    pub fn clear(&mut self) {
        if std::mem::replace(&mut self.is_shown, false) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether standard error is a terminal on which a line can be written over.
pub fn stderr_is_terminal() -> bool {
    let is_dumb = env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    !is_dumb && io::stderr().is_terminal()
}
