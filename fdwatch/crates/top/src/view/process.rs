//! Draws a process: name, curve, descriptors and explanation.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::UnicodeWidthStr as _;

use super::{
    super::{
        Pane, ProcessView, Top,
        data::{Descriptor, DuplicateMark},
        layout::Layout,
        wrap::wrap,
    },
    paint::{draw_curve, put, put_right, title},
};
use fdwatch_core::plural::{noun, thousands};

impl Top {
    pub(super) fn draw_process(&self, opened: &ProcessView, layout: &Layout, buffer: &mut Buffer) {
        self.draw_name(opened, layout.name, buffer);
        self.draw_curve_panel(opened, layout.curve, buffer);
        self.draw_table(opened, layout, buffer);
        self.draw_explanation(opened, layout, buffer);
    }

    fn draw_name(&self, opened: &ProcessView, area: Rect, buffer: &mut Buffer) {
        let theme = self.theme;
        let row = &opened.row;
        let mut name = format!("{}[{}]", row.comm, row.pid);
        let table = opened.table.as_ref();
        let unit = table.map_or(row.unit.as_str(), |table| &table.unit);
        for more in [row.user.as_str(), unit] {
            if !more.is_empty() {
                name.push_str("  ");
                name.push_str(more);
            }
        }
        if opened.is_gone {
            name.push_str("  exited");
        }
        let command = table.map_or("", |table| &table.command);
        put(buffer, 0, area.y, area.width, &name, theme.bold());
        let after = u16::try_from(name.width() + 2).unwrap_or(u16::MAX);
        if after < area.width {
            put(
                buffer,
                after,
                area.y,
                area.width - after,
                command,
                theme.dim(),
            );
        }
    }

    /// Draws the curve, with its minimum, its maximum, the limit and the growth.
    fn draw_curve_panel(&self, opened: &ProcessView, area: Rect, buffer: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let theme = self.theme;
        let row = &opened.row;
        let (min, max) = (row.curve.iter().min(), row.curve.iter().max());
        let wide = 12.min(area.width);
        if let (Some(min), Some(max)) = (min, max) {
            let dim = theme.dim();
            put_right(buffer, 0, area.y, wide - 2, &max.to_string(), dim);
            put_right(
                buffer,
                0,
                area.bottom() - 1,
                wide - 2,
                &min.to_string(),
                dim,
            );
        }
        let curve = Rect {
            x: wide,
            width: 60.min(area.width - wide),
            ..area
        };
        draw_curve(theme, &row.curve, curve, buffer);
        let beside = curve.right() + 2;
        if beside + 8 > area.width {
            return;
        }
        let limit = row
            .limit
            .map_or_else(String::new, |limit| format!(" of {}", thousands(limit)));
        let share = row
            .percent()
            .map_or_else(String::new, |percent| format!(", {percent}%"));
        let more = match row.per_hour() {
            Some(more) => format!("{more:+}/h"),
            None => String::new(),
        };
        let words = [
            format!("{}{limit}{share}", thousands(row.descriptors)),
            more,
            "last 5 minutes".to_owned(),
        ];
        for (y, words) in (area.y..area.bottom()).zip(&words) {
            put(buffer, beside, y, area.width - beside, words, Style::new());
        }
    }

    fn draw_table(&self, opened: &ProcessView, layout: &Layout, buffer: &mut Buffer) {
        let theme = self.theme;
        let area = layout.main_title;
        if area.height == 0 {
            return;
        }
        let has_focus = opened.pane == Pane::Main;
        let style = theme.title(has_focus);
        title(buffer, area, "", style);
        let width = self.size.0;
        let columns = columns(width);
        for &(name, x, wide) in columns {
            put(buffer, x, area.y, left(width, x, wide), name, style);
        }
        let rows = opened.table.as_ref().map_or(&[][..], |table| &table.rows);
        let duplicates = rows
            .iter()
            .filter(|row| row.duplicate.is_some_and(|it| it.matters));
        let duplicates = duplicates.count();
        let mut words = format!(
            " {} {}, {duplicates} on duplicated files",
            thousands(rows.len() as u64),
            noun(&rows.len(), "descriptor")
        );
        if !opened.filter.is_empty() {
            let shown = opened.shown.len();
            words = format!(" {shown} of {}{}", rows.len(), self.filter_words());
        }
        if width >= 70 {
            let half = width / 2;
            put_right(buffer, width - half, area.y, half, &words, style);
        }
        let lines = layout.main.y..layout.main.bottom();
        let seen = opened.shown.iter().enumerate().skip(opened.list.offset);
        for (y, (index, &row)) in lines.zip(seen) {
            let Some(row) = rows.get(row) else { continue };
            self.draw_descriptor(row, y, columns, buffer);
            if index == opened.list.selected && has_focus {
                let line = Rect::new(0, y, width, 1);
                buffer.set_style(line, theme.selected(true));
            }
        }
        if opened.shown.is_empty() && layout.main.height > 0 {
            let words = match (&opened.failed, opened.table.is_some()) {
                (Some(reason), _) => reason.as_str(),
                (None, true) => "none",
                (None, false) => "loading...",
            };
            put(buffer, 0, layout.main.y, width, words, theme.dim());
        }
    }

    fn draw_descriptor(
        &self,
        row: &Descriptor,
        y: u16,
        columns: &[(&str, u16, u16)],
        buffer: &mut Buffer,
    ) {
        let theme = self.theme;
        let width = self.size.0;
        let style = match row.duplicate {
            Some(mark) if mark.matters => theme.warning(),
            _ => Style::new(),
        };
        for &(name, x, wide) in columns {
            let wide = left(width, x, wide);
            let mut text = |text: &str, style| put(buffer, x, y, wide, text, style);
            match name {
                "FD" => put_right(buffer, x, y, wide, &row.fd.to_string(), style),
                "DUP" => {
                    let Some(duplicate) = row.duplicate else {
                        continue;
                    };
                    text(&mark(duplicate), style);
                }
                "MODE" => text(&row.mode, Style::new()),
                "TYPE" => text(&row.kind, theme.dim()),
                "ORIGIN" => text(&row.origin, theme.accent()),
                "AGE" => {
                    let age = row.age.map_or_else(|| "before".to_owned(), age);
                    put_right(buffer, x, y, wide, &age, Style::new());
                }
                _ => text(&row.path, style),
            }
        }
    }

    fn draw_explanation(&self, opened: &ProcessView, layout: &Layout, buffer: &mut Buffer) {
        let theme = self.theme;
        let area = layout.second_title;
        if area.height == 0 {
            return;
        }
        let style = theme.title(opened.pane == Pane::Second);
        title(buffer, area, "EXPLANATION", style);
        let lines = wrap(&opened.explanation, self.size.0);
        let end = opened.explanation_scroll.offset + usize::from(layout.second.height);
        if lines.len() > usize::from(layout.second.height) {
            let words = format!("{} of {} lines ", end.min(lines.len()), lines.len());
            put_right(buffer, 0, area.y, area.width, &words, style);
        }
        let seen = lines.iter().skip(opened.explanation_scroll.offset);
        for (y, line) in (layout.second.y..layout.second.bottom()).zip(seen) {
            put(buffer, 0, y, self.size.0, line, Style::new());
        }
        if lines.is_empty() && layout.second.height > 0 {
            let words = opened.failed.as_deref().unwrap_or("loading...");
            put(buffer, 0, layout.second.y, self.size.0, words, theme.dim());
        }
    }
}

/// Returns the columns of the descriptors, each with its start and width; 0 is the remaining width.
const fn columns(width: u16) -> &'static [(&'static str, u16, u16)] {
    match width {
        70.. => &[
            ("DUP", 0, 6),
            ("FD", 6, 6),
            ("MODE", 13, 4),
            ("TYPE", 18, 9),
            ("ORIGIN", 28, 10),
            ("AGE", 39, 7),
            ("FILE", 47, 0),
        ],
        _ => &[
            ("DUP", 0, 6),
            ("FD", 6, 5),
            ("MODE", 12, 4),
            ("FILE", 17, 0),
        ],
    }
}

/// Returns the width of a column on a screen of this width.
const fn left(width: u16, x: u16, wide: u16) -> u16 {
    let left = width.saturating_sub(x);
    if wide == 0 || wide > left { left } else { wide }
}

/// Returns the mark of descriptors on one file: `dup` if it shares an earlier one's open file description.
fn mark(duplicate: DuplicateMark) -> String {
    let line = match (duplicate.is_first, duplicate.is_last) {
        (true, _) => "┌",
        (_, true) => "└",
        _ => "├",
    };
    let how = match (duplicate.is_first, duplicate.is_shared) {
        (true, _) => "",
        (_, true) => "dup",
        (_, false) => "again",
    };
    format!("{line}{how}")
}

/// Formats an age in at most four columns.
fn age(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
