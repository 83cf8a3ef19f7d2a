//! Takes over the terminal, draws on it, and restores it, also after a panic.

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

/// Whether the terminal is taken over.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

const CANNOT_DRAW: &str = "cannot draw on the terminal";

/// The terminal while it is taken over.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes over the terminal.
    pub(crate) fn take_over() -> Result<Self> {
        // A panic message is readable only after the terminal is restored.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        enter().inspect_err(|_| restore())?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.inspect_err(|_| restore()).context(CANNOT_DRAW)?;
        Ok(Self { terminal })
    }

    /// Returns the columns and lines.
    #[expect(clippy::unused_self, reason = "the size of this terminal")]
    pub(crate) fn size(&self) -> Result<(u16, u16)> {
        size().context("cannot get the size of the terminal")
    }

    /// Draws a frame.
    pub(crate) fn draw(&mut self, top: &Top) -> Result<()> {
        let drawn = self.terminal.draw(|frame| top.view(frame));
        drawn.map(drop).context(CANNOT_DRAW)
    }

    /// Clears the screen, so that the next frame draws all of it.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let (width, height) = self.size()?;
        // `Terminal::clear` queries the cursor position, and the response would be read as keys.
        let area = Rect::new(0, 0, width, height);
        self.terminal.resize(area).context(CANNOT_DRAW)
    }

    /// Restores the terminal, stops the process, and takes the terminal over again when it is resumed.
    pub(crate) fn suspend(&mut self) -> Result<()> {
        restore();
        // SAFETY: the call takes numbers only.
        unsafe { libc::raise(libc::SIGSTOP) };
        enter()?;
        self.clear()
    }

    /// Restores the terminal.
    #[expect(clippy::unused_self, reason = "restores this terminal")]
    pub(crate) fn restore(&mut self) {
        restore();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn enter() -> Result<()> {
    enable_raw_mode().context("cannot enable raw mode")?;
    IS_TAKEN.store(true, SeqCst);
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        EnableMouseCapture,
        EnableBracketedPaste
    )
    .context(CANNOT_DRAW)
}

/// Restores the terminal if it is taken over. Errors are ignored: the terminal may be closed.
fn restore() {
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
