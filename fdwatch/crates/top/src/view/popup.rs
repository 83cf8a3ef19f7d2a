//! What stands over all else: help, and what to sort by.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    super::{Column, Top, list::Scroll},
    put,
};

/// Keys, and what they do.
const HELP: &[(&str, &str)] = &[
    ("", "PROCESSES AND FINDINGS"),
    (
        "Up Down PgUp PgDn",
        "choose another; Home, End: first, last",
    ),
    ("Enter", "open the process: descriptors, curve, story"),
    ("F4 /", "filter as you type: name, number, unit, user,"),
    ("", "or the path of a finding; Esc drops it"),
    ("F6", "sort by; < > the column before, the next"),
    ("I", "the other way round"),
    ("P M D", "sort by descriptors, share of limit, duplicates"),
    ("G N C U S", "by growth, number, name, user, unit"),
    ("Tab", "to the findings, and back"),
    ("f", "hide the findings, or show them"),
    ("Space z", "freeze: what comes waits until you go on"),
    ("q F10 Ctrl-C", "end; Ctrl-Z to the shell for a while"),
    ("", ""),
    ("", "A PROCESS"),
    ("Tab", "from the descriptors to the story, and back"),
    ("F4 /", "filter by path, type, origin, number"),
    ("q Esc Left", "back to the processes"),
    ("", ""),
    ("", "THE MOUSE"),
    ("wheel, click", "choose; a second click opens"),
    ("click on a title", "sort by it; once more: the other way"),
    ("", ""),
    ("", "COLUMNS"),
    (
        "FDS, LIMIT",
        "descriptors, and their share of RLIMIT_NOFILE",
    ),
    ("DUP", "descriptors on files held before, in one process"),
    ("+/H", "more in an hour, by the last five minutes"),
    ("TWICE", "on one file: again, or dup of the description"),
    ("MODE", "r w; a: appends, x: close-on-exec"),
    ("AGE", "'before': opened before fdwatch was there"),
];

/// Columns the keys' names take.
const KEYS: u16 = 18;

/// Lines of the help.
pub(crate) const fn help_lines() -> usize {
    HELP.len()
}

pub(super) fn help(top: &Top, scroll: Scroll, buffer: &mut Buffer) {
    let height = u16::try_from(HELP.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let area = centred(top.size, 72, height);
    frame(
        top,
        area,
        " Help: Up and Down for more, any other key closes it ",
        buffer,
    );
    let lines = area.y + 1..area.bottom() - 1;
    for (y, (key, words)) in lines.zip(HELP.iter().skip(scroll.offset)) {
        let (x, width) = (area.x + 2, area.width - 4);
        put(buffer, x, y, width.min(KEYS), key, top.theme.accent());
        let style = if words.chars().all(|letter| !letter.is_lowercase()) {
            top.theme.bold()
        } else {
            Style::new()
        };
        let x = x + KEYS + 1;
        put(
            buffer,
            x,
            y,
            (area.right() - 1).saturating_sub(x),
            words,
            style,
        );
    }
}

/// Where the columns that can be chosen stand, a line each between two.
pub(crate) fn sort_area(size: (u16, u16)) -> Rect {
    let lines = u16::try_from(Column::SORTED.len()).unwrap_or(0);
    centred(size, 34, lines + 2)
}

pub(super) fn sort(top: &Top, at: usize, buffer: &mut Buffer) {
    let area = sort_area(top.size);
    frame(top, area, " Sort by ", buffer);
    let lines = area.y + 1..area.bottom() - 1;
    for (y, (index, column)) in lines.zip(Column::SORTED.iter().enumerate()) {
        let (words, key) = column.words();
        let words = format!("{key}  {words} ({})", column.title());
        put(buffer, area.x + 2, y, area.width - 4, &words, Style::new());
        if index == at {
            let line = Rect::new(area.x + 1, y, area.width - 2, 1);
            buffer.set_style(line, top.theme.chosen(true));
        }
    }
}

fn centred((width, height): (u16, u16), wide: u16, high: u16) -> Rect {
    let (wide, high) = (wide.min(width), high.min(height.saturating_sub(2)));
    Rect::new((width - wide) / 2, (height - high) / 2, wide, high)
}

/// Clears an area, and puts a frame around it.
fn frame(top: &Top, area: Rect, words: &str, buffer: &mut Buffer) {
    let style = top.theme.accent();
    let across = "─".repeat(usize::from(area.width).saturating_sub(2));
    for y in area.y..area.bottom() {
        for x in area.x..area.right() {
            buffer[(x, y)].reset();
        }
        let is_edge = y == area.y || y + 1 == area.bottom();
        let (begin, end) = match (is_edge, y == area.y) {
            (false, _) => ("│", "│"),
            (true, true) => ("┌", "┐"),
            (true, false) => ("└", "┘"),
        };
        put(buffer, area.x, y, 1, begin, style);
        put(buffer, area.right() - 1, y, 1, end, style);
        if is_edge {
            put(buffer, area.x + 1, y, area.width - 2, &across, style);
        }
    }
    let wide = (area.width - 4).min(u16::try_from(words.len()).unwrap_or(0));
    put(buffer, area.x + 2, area.y, wide, words, top.theme.bold());
}
