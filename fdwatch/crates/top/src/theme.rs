//! Styles, with or without colours, and the replacement of characters that are not ASCII.

use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style},
};

use fdwatch_core::diagnose::Severity;

/// Capabilities of the terminal, limited by the user's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Use colours.
    pub colour: bool,
    /// Use characters other than ASCII.
    pub unicode: bool,
}

/// Blocks of rising height.
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

    /// Returns the style of a title.
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

    /// Returns the style of the selected row.
    pub(super) const fn selected(self, has_focus: bool) -> Style {
        match (self.colour, has_focus) {
            (true, true) => Style::new().bg(Color::Cyan).fg(Color::Black),
            (false, true) => Style::new().add_modifier(Modifier::REVERSED),
            (_, false) => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// Returns the style of a key's name in the footer.
    pub(super) const fn key(self) -> Style {
        if self.colour {
            Style::new().bg(Color::Cyan).fg(Color::Black)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    /// Returns the style of a usage in percent.
    pub(super) const fn fill(self, percent: u64) -> Style {
        match percent {
            80.. => self.critical(),
            50.. => self.warning(),
            _ => self.good(),
        }
    }

    /// Returns the block of a curve at `row` from below, of `rows`, for a value from 0 to 1.
    pub(super) fn column(value: f64, row: u16, rows: u16) -> &'static str {
        let eighths = (value.clamp(0.0, 1.0) * f64::from(rows) * 8.0).round();
        let here = eighths - f64::from(row) * 8.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 8"
        )]
        let here = here.clamp(0.0, 8.0) as usize;
        match here.checked_sub(1) {
            Some(block) => BLOCKS[block],
            // The minimum is visible, too.
            None if row == 0 => BLOCKS[0],
            None => " ",
        }
    }

    /// Replaces characters that are not ASCII, unless they can be shown.
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
