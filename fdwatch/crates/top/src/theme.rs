//! How things look: with colours or without, with all characters or with ASCII's alone.

use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style},
};

use fdwatch_core::diagnose::Severity;

/// What the terminal can show, and the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours are wanted.
    pub colour: bool,
    /// Characters beyond ASCII can be shown.
    pub unicode: bool,
}

/// Heights of a column, the lowest first.
const BLOCKS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

impl Theme {
    const fn of(self, colour: Color, without: Modifier) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new().add_modifier(without)
        }
    }

    pub(super) const fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) const fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) const fn good(self) -> Style {
        self.of(Color::Green, Modifier::empty())
    }

    pub(super) const fn accent(self) -> Style {
        self.of(Color::Cyan, Modifier::empty())
    }

    pub(super) const fn warning(self) -> Style {
        self.of(Color::Yellow, Modifier::BOLD)
    }

    pub(super) const fn critical(self) -> Style {
        self.of(Color::Red, Modifier::BOLD)
            .add_modifier(Modifier::BOLD)
    }

    pub(super) const fn severity(self, severity: Option<Severity>) -> Style {
        match severity {
            Some(Severity::Critical) => self.critical(),
            Some(Severity::Warning) => self.warning(),
            Some(Severity::Info) => self.accent(),
            None => Style::new(),
        }
    }

    /// Of a title of a table or a pane.
    pub(super) const fn title(self, has_focus: bool) -> Style {
        if self.colour {
            let back = if has_focus {
                Color::Green
            } else {
                Color::DarkGray
            };
            let front = if has_focus {
                Color::Black
            } else {
                Color::White
            };
            Style::new().bg(back).fg(front)
        } else if has_focus {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new().add_modifier(Modifier::UNDERLINED)
        }
    }

    /// Of the row that is chosen.
    pub(super) const fn chosen(self, has_focus: bool) -> Style {
        match (self.colour, has_focus) {
            (true, true) => Style::new().bg(Color::Cyan).fg(Color::Black),
            (false, true) => Style::new().add_modifier(Modifier::REVERSED),
            (_, false) => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// Of a key's name at the bottom.
    pub(super) const fn key(self) -> Style {
        if self.colour {
            Style::new().bg(Color::Cyan).fg(Color::Black)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    /// How full something is that is `percent` full.
    pub(super) const fn fill(self, percent: u64) -> Style {
        match percent {
            80.. => self.critical(),
            50.. => self.warning(),
            _ => self.good(),
        }
    }

    /// One column of a curve: of `of` rows, that at `row` from below, for a share of `share` of 1.
    pub(super) fn column(share: f64, row: u16, of: u16) -> &'static str {
        let eighths = (share.clamp(0.0, 1.0) * f64::from(of) * 8.0).round();
        let here = eighths - f64::from(row) * 8.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to 8"
        )]
        let here = here.clamp(0.0, 8.0) as usize;
        match here.checked_sub(1) {
            Some(block) => BLOCKS[block],
            // A curve is seen where it is at its lowest, too.
            None if row == 0 => BLOCKS[0],
            None => " ",
        }
    }

    /// Puts what cannot be shown into what can, in all of the screen.
    pub(super) fn finish(self, buffer: &mut Buffer) {
        if self.unicode {
            return;
        }
        for cell in &mut buffer.content {
            if !cell.symbol().is_ascii() {
                let plain = match cell.symbol() {
                    "▁" | "▂" => "_",
                    "▃" | "▄" | "·" => ".",
                    "▅" | "▆" => ":",
                    "▇" | "█" => "|",
                    "─" | "━" => "-",
                    "│" => "|",
                    "┌" | "┐" | "└" | "┘" | "├" => "+",
                    "…" => "~",
                    "▲" => "^",
                    "▼" => "v",
                    _ => "?",
                };
                cell.set_symbol(plain);
            }
        }
    }
}
