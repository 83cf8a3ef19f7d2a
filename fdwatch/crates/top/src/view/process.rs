//! A process that was opened: who it is, its curve, its descriptors, and its story.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    super::{
        Opened, Pane, Top,
        data::{Descriptor, Twice},
        places::Places,
    },
    lists::draw_curve,
    put, put_right, title,
};
use fdwatch_core::plural::noun;
use fdwatch_core::plural::thousands;

/// Lines of a story are broken to no less than this: columns.
const MIN: usize = 20;

impl Top {
    pub(super) fn draw_process(&self, opened: &Opened, places: &Places, buffer: &mut Buffer) {
        self.draw_name(opened, places.name, buffer);
        self.draw_history(opened, places.curve, buffer);
        self.draw_table(opened, places, buffer);
        self.draw_story(opened, places, buffer);
    }

    fn draw_name(&self, opened: &Opened, area: Rect, buffer: &mut Buffer) {
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
            name.push_str("  has ended");
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

    /// The curve, and what its ends are.
    fn draw_history(&self, opened: &Opened, area: Rect, buffer: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let theme = self.theme;
        let row = &opened.row;
        let (least, most) = (row.curve.iter().min(), row.curve.iter().max());
        let wide = 12.min(area.width);
        if let (Some(least), Some(most)) = (least, most) {
            let dim = theme.dim();
            put_right(buffer, 0, area.y, wide - 2, &most.to_string(), dim);
            put_right(
                buffer,
                0,
                area.bottom() - 1,
                wide - 2,
                &least.to_string(),
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
            .map_or_else(String::new, |percent| format!(", {percent} %"));
        let more = match row.per_hour() {
            Some(more) => format!("{more:+} an hour"),
            None => String::new(),
        };
        let words = [
            format!("{}{limit}{share}", thousands(row.descriptors)),
            more,
            "the last five minutes".to_owned(),
        ];
        for (y, words) in (area.y..area.bottom()).zip(&words) {
            put(buffer, beside, y, area.width - beside, words, Style::new());
        }
    }

    fn draw_table(&self, opened: &Opened, places: &Places, buffer: &mut Buffer) {
        let theme = self.theme;
        let area = places.main_title;
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
        let twice = rows
            .iter()
            .filter(|row| row.twice.is_some_and(|it| it.matters));
        let twice = twice.count();
        let mut words = format!(
            " {} {}, {twice} on files held twice",
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
        let lines = places.main.y..places.main.bottom();
        let seen = opened.shown.iter().enumerate().skip(opened.list.offset);
        for (y, (index, &row)) in lines.zip(seen) {
            let Some(row) = rows.get(row) else { continue };
            self.draw_descriptor(row, y, columns, buffer);
            if index == opened.list.chosen && has_focus {
                let line = Rect::new(0, y, width, 1);
                buffer.set_style(line, theme.chosen(true));
            }
        }
        if opened.shown.is_empty() && places.main.height > 0 {
            let words = match (&opened.failed, opened.table.is_some()) {
                (Some(reason), _) => reason.as_str(),
                (None, true) => "none",
                (None, false) => "asking...",
            };
            put(buffer, 0, places.main.y, width, words, theme.dim());
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
        let style = match row.twice {
            Some(twice) if twice.matters => theme.warning(),
            _ => Style::new(),
        };
        for &(name, x, wide) in columns {
            let wide = left(width, x, wide);
            let mut text = |text: &str, style| put(buffer, x, y, wide, text, style);
            match name {
                "FD" => put_right(buffer, x, y, wide, &row.fd.to_string(), style),
                "TWICE" => {
                    let Some(twice) = row.twice else { continue };
                    text(&mark(twice), style);
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

    fn draw_story(&self, opened: &Opened, places: &Places, buffer: &mut Buffer) {
        let theme = self.theme;
        let area = places.other_title;
        if area.height == 0 {
            return;
        }
        let style = theme.title(opened.pane == Pane::Other);
        title(buffer, area, "STORY", style);
        let lines = broken(&opened.story, self.size.0);
        let end = opened.story_at.offset + usize::from(places.other.height);
        if lines.len() > usize::from(places.other.height) {
            let words = format!("{} of {} lines ", end.min(lines.len()), lines.len());
            put_right(buffer, 0, area.y, area.width, &words, style);
        }
        let seen = lines.iter().skip(opened.story_at.offset);
        for (y, line) in (places.other.y..places.other.bottom()).zip(seen) {
            put(buffer, 0, y, self.size.0, line, Style::new());
        }
        if lines.is_empty() && places.other.height > 0 {
            let words = opened.failed.as_deref().unwrap_or("asking...");
            put(buffer, 0, places.other.y, self.size.0, words, theme.dim());
        }
    }
}

/// The columns of a table, each with where it begins and how wide it is; 0 is all that is left.
const fn columns(width: u16) -> &'static [(&'static str, u16, u16)] {
    match width {
        70.. => &[
            ("TWICE", 0, 6),
            ("FD", 6, 6),
            ("MODE", 13, 4),
            ("TYPE", 18, 9),
            ("ORIGIN", 28, 10),
            ("AGE", 39, 7),
            ("FILE", 47, 0),
        ],
        _ => &[
            ("TWICE", 0, 6),
            ("FD", 6, 5),
            ("MODE", 12, 4),
            ("FILE", 17, 0),
        ],
    }
}

const fn left(width: u16, x: u16, wide: u16) -> u16 {
    let left = width.saturating_sub(x);
    if wide == 0 || wide > left { left } else { wide }
}

/// What stands before those that are on one file: `dup` marks what shares the description of one before it.
fn mark(twice: Twice) -> String {
    let line = match (twice.is_first, twice.is_last) {
        (true, _) => "┌",
        (_, true) => "└",
        _ => "├",
    };
    let how = match (twice.is_first, twice.is_shared) {
        (true, _) => "",
        (_, true) => "dup",
        (_, false) => "again",
    };
    format!("{line}{how}")
}

/// An age in few columns.
fn age(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How many lines a story takes on a screen of this width.
pub(crate) fn story_lines(story: &[String], width: u16) -> usize {
    broken(story, width).len()
}

/// The lines of a story, broken between words where they are longer than the screen is wide.
fn broken(story: &[String], width: u16) -> Vec<String> {
    let width = usize::from(width).max(MIN);
    let mut lines = Vec::new();
    for line in story {
        if line.width() <= width {
            lines.push(line.clone());
            continue;
        }
        // What goes on stands as far in as what it goes on from.
        let indent = line.len() - line.trim_start().len();
        let indent = indent.min(width / 2);
        let mut rest = line.as_str();
        let mut before = 0;
        while !rest.is_empty() {
            let end = fitting(rest, width - before);
            let (part, more) = rest.split_at(end);
            lines.push(format!("{}{}", " ".repeat(before), part.trim_end()));
            rest = more.trim_start();
            before = indent + 2;
        }
    }
    lines
}

/// How many bytes of the text fit, up to the end of a word if there is one.
fn fitting(text: &str, width: usize) -> usize {
    let mut used = 0;
    let mut word = 0;
    let begins = text.len() - text.trim_start().len();
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width {
            let end = if word > begins { word } else { at };
            // One character at least, however wide.
            return if end == 0 { character.len_utf8() } else { end };
        }
        if character == ' ' {
            word = at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_broken_between_words() {
        let story = [
            "  12:00:00  opened in a place with many words".to_owned(),
            "x".repeat(45),
            String::new(),
        ];
        let lines = broken(&story, 24);
        assert_eq!(
            lines,
            [
                "  12:00:00  opened in a",
                "    place with many",
                "    words",
                &"x".repeat(24),
                &format!("  {}", "x".repeat(21)),
                "",
            ]
        );
        assert!(lines.iter().all(|line| line.width() <= 24));
        let wide = ["長".repeat(30)];
        assert!(broken(&wide, 21).iter().all(|line| line.width() <= 21));
    }
}
