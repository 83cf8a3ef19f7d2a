//! Draws the popups: help, and the sort column.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    super::{Column, Top, help::HELP, list::Scroll},
    paint::put,
};

/// Width of the column of keys.
const KEYS_WIDTH: u16 = 18;

pub(super) fn help(top: &Top, scroll: Scroll, buffer: &mut Buffer) {
    let height = u16::try_from(HELP.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let area = centred(top.size, 72, height);
    frame(
        top,
        area,
        " Help: Up and Down scroll, other keys close ",
        buffer,
    );
    let lines = area.y + 1..area.bottom() - 1;
    for (y, (key, words)) in lines.zip(HELP.iter().skip(scroll.offset)) {
        let (x, width) = (area.x + 2, area.width - 4);
        put(buffer, x, y, width.min(KEYS_WIDTH), key, top.theme.accent());
        let style = if words.chars().all(|letter| !letter.is_lowercase()) {
            top.theme.bold()
        } else {
            Style::new()
        };
        let x = x + KEYS_WIDTH + 1;
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

/// Returns the area of the sort popup: a line per column, in a frame.
pub(crate) fn sort_area(size: (u16, u16)) -> Rect {
    let lines = u16::try_from(Column::SORTABLE.len()).unwrap_or(0);
    centred(size, 34, lines + 2)
}

pub(super) fn sort(top: &Top, at: usize, buffer: &mut Buffer) {
    let area = sort_area(top.size);
    frame(top, area, " Sort by ", buffer);
    let lines = area.y + 1..area.bottom() - 1;
    for (y, (index, column)) in lines.zip(Column::SORTABLE.iter().enumerate()) {
        let (words, key) = column.description();
        let words = format!("{key}  {words} ({})", column.title());
        put(buffer, area.x + 2, y, area.width - 4, &words, Style::new());
        if index == at {
            let line = Rect::new(area.x + 1, y, area.width - 2, 1);
            buffer.set_style(line, top.theme.selected(true));
        }
    }
}

fn centred((width, height): (u16, u16), wide: u16, high: u16) -> Rect {
    let (wide, high) = (wide.min(width), high.min(height.saturating_sub(2)));
    Rect::new((width - wide) / 2, (height - high) / 2, wide, high)
}

/// Clears an area, and draws a frame with a title.
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
