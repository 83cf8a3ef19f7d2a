//! Drawing primitives: text, titles, curves.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::UnicodeWidthStr as _;

use crate::theme::Theme;

/// Writes text, truncated with an ellipsis to `width` columns.
pub(super) fn put(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let area = buffer.area;
    if width == 0 || !area.contains((x, y).into()) {
        return;
    }
    let width = width.min(area.right() - x);
    if text.width() <= usize::from(width) {
        buffer.set_stringn(x, y, text, width.into(), style);
        return;
    }
    let (end, _) = buffer.set_stringn(x, y, text, usize::from(width - 1), style);
    buffer.set_stringn(end, y, "…", 1, style);
}

/// Writes text aligned to the right of `width` columns.
pub(super) fn put_right(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let wide = u16::try_from(text.width()).unwrap_or(width).min(width);
    put(buffer, x + width - wide, y, wide, text, style);
}

/// Draws a title bar.
pub(super) fn title(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    buffer.set_style(area, style);
    put(buffer, area.x, area.y, area.width, text, style);
}

/// Formats a count in at most five columns: 99999, 123k, 45M.
pub(super) fn short(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// Draws a curve of the latest counts, one per column, scaled from their minimum to their maximum.
pub(super) fn draw_curve(theme: Theme, curve: &[u32], area: Rect, buffer: &mut Buffer) {
    let from = curve.len().saturating_sub(area.width.into());
    let curve = &curve[from..];
    let (Some(&min), Some(&max)) = (curve.iter().min(), curve.iter().max()) else {
        return;
    };
    let style = if max > min {
        theme.accent()
    } else {
        theme.dim()
    };
    for (x, &count) in (area.x..area.right()).zip(curve) {
        let share = f64::from(count - min) / f64::from((max - min).max(1));
        for row in 0..area.height {
            let block = Theme::column(share, row, area.height);
            put(buffer, x, area.bottom() - 1 - row, 1, block, style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn counts_are_abbreviated() {
        assert_eq!(short(99_999), "99999");
        assert_eq!(short(1_234_567), "1234k");
        assert_eq!(short(12_345_678), "12M");
    }
}
