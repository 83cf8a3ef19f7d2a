//! Progress of the start, drawn in place on standard error if that is a terminal.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

/// Progress line. Loading the programs and the snapshot may take seconds.
pub(crate) struct Steps {
    is_enabled: bool,
    is_shown: bool,
}

impl Steps {
    pub(crate) fn new(is_enabled: bool) -> Self {
        Self {
            is_enabled: is_enabled && stderr_is_terminal(),
            is_shown: false,
        }
    }

    pub(crate) fn show(&mut self, step: &str) {
        if self.is_enabled {
            let _ = write!(io::stderr().lock(), "\r{step} ...\x1b[K\r");
            self.is_shown = true;
        }
    }

    /// Erases the line, to make room for other output.
    pub(crate) fn clear(&mut self) {
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

/// Returns whether standard error is a terminal that can overwrite a line.
pub fn stderr_is_terminal() -> bool {
    let is_dumb = env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    !is_dumb && io::stderr().is_terminal()
}
