//! The terminal: taken, drawn on, and given back as it was, whatever happens.

use std::{
    io::{self, Stdout, Write as _},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use anyhow::{Context as _, Result};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{
            DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
        },
        execute,
        terminal::{
            EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
        },
    },
    layout::Rect,
};

use crate::Top;

/// Whether the terminal is taken.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

const CANNOT_DRAW: &str = "cannot draw on the terminal";

/// See the module.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take() -> Result<Self> {
        // What panics says so where it can be read.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                give_back();
                before(info);
            }));
        });
        enter().inspect_err(|_| give_back())?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.inspect_err(|_| give_back()).context(CANNOT_DRAW)?;
        Ok(Self { terminal })
    }

    /// Columns and lines.
    #[expect(clippy::unused_self, reason = "it is the size of this one")]
    pub(crate) fn size(&self) -> Result<(u16, u16)> {
        size().context("cannot tell how large the terminal is")
    }

    pub(crate) fn draw(&mut self, top: &Top) -> Result<()> {
        let drawn = self.terminal.draw(|frame| top.view(frame));
        drawn.map(drop).context(CANNOT_DRAW)
    }

    /// All of it is drawn again the next time.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let (width, height) = self.size()?;
        // `clear` would ask the terminal where its cursor is, and what it answers is read as keys.
        let area = Rect::new(0, 0, width, height);
        self.terminal.resize(area).context(CANNOT_DRAW)
    }

    /// Gives it back until the process is to go on.
    pub(crate) fn suspend(&mut self) -> Result<()> {
        give_back();
        // SAFETY: the call takes numbers only.
        unsafe { libc::raise(libc::SIGSTOP) };
        enter()?;
        self.clear()
    }

    #[expect(clippy::unused_self, reason = "it is this one that is given back")]
    pub(crate) fn give_back(&mut self) {
        give_back();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> Result<()> {
    enable_raw_mode().context("cannot take the terminal")?;
    IS_TAKEN.store(true, SeqCst);
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        EnableMouseCapture,
        EnableBracketedPaste
    )
    .context(CANNOT_DRAW)
}

/// Once, if it is taken. Where the terminal is gone there is nothing to give back.
fn give_back() {
    if IS_TAKEN.swap(false, SeqCst) {
        let mut output = io::stdout();
        let _ = execute!(
            output,
            DisableBracketedPaste,
            DisableMouseCapture,
            LeaveAlternateScreen,
            Show
        );
        let _ = output.flush();
        let _ = disable_raw_mode();
    }
}
