//! Draws the lists of processes and findings.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    super::{
        Column, Pane, Theme, Top,
        data::{FindingChange, FindingEvent, Row},
        layout::Layout,
    },
    paint::{draw_curve, put, put_right, short, title},
};
use fdwatch_core::plural::{noun, thousands};

impl Top {
    pub(super) fn draw_rows(&self, layout: &Layout, buffer: &mut Buffer) {
        let theme = self.theme;
        let has_focus = self.pane == Pane::Main;
        let columns = Column::layout(self.size.0);
        let area = layout.main_title;
        if area.height > 0 {
            title(buffer, area, "", theme.title(has_focus));
            for &(column, x, wide) in &columns {
                let mut words = column.title().to_owned();
                let mut style = theme.title(has_focus);
                if column == self.sort {
                    style = style.patch(theme.bold());
                    let is_descending = column.is_descending() != self.is_reversed;
                    words.push_str(if is_descending { "▼" } else { "▲" });
                }
                if is_number(column) {
                    put_right(buffer, x, area.y, wide, &words, style);
                } else {
                    put(buffer, x, area.y, wide, &words, style);
                }
            }
            let of = if self.filter.is_empty() {
                String::new()
            } else {
                let (shown, all) = (self.shown.len(), self.rows.len());
                format!(" {shown} of {all}{} ", self.filter_words())
            };
            let left = area.width / 2;
            put_right(
                buffer,
                area.width - left,
                area.y,
                left,
                &of,
                theme.title(has_focus),
            );
        }
        let seen = self.shown.iter().enumerate().skip(self.list.offset);
        let lines = layout.main.y..layout.main.bottom();
        let mut last = layout.main.y;
        for (y, (index, &row)) in lines.zip(seen) {
            last = y + 1;
            let Some(row) = self.rows.get(row) else {
                continue;
            };
            for &(column, x, wide) in &columns {
                cell(theme, row, column, Rect::new(x, y, wide, 1), buffer);
            }
            if index == self.list.selected {
                let line = Rect::new(0, y, self.size.0, 1);
                buffer.set_style(line, theme.selected(has_focus));
            }
        }
        let words = match (self.rows.is_empty(), self.shown.is_empty()) {
            (true, _) => "scanning processes...".to_owned(),
            (_, true) => format!(
                "no process matches '{}'; Esc clears the filter",
                self.filter
            ),
            _ if self.more_rows > 0 && self.filter.is_empty() => format!(
                "{} more {} with fewer descriptors",
                thousands(self.more_rows),
                noun(&self.more_rows, "process")
            ),
            _ => return,
        };
        if last < layout.main.bottom() {
            put(buffer, 0, last, self.size.0, &words, theme.dim());
        }
    }

    pub(super) fn draw_findings(&self, layout: &Layout, buffer: &mut Buffer) {
        let theme = self.theme;
        let has_focus = self.pane == Pane::Second;
        let area = layout.second_title;
        if area.height == 0 {
            return;
        }
        let all = self.findings.len() as u64 + self.older_findings;
        let mut words = format!("{} {}", thousands(all), noun(&all, "finding"));
        if !self.filter.is_empty() {
            words.push_str(&format!(
                ", {} shown{}",
                self.shown_findings.len(),
                self.filter_words()
            ));
        }
        if self.missed > 0 {
            words.push_str(&format!(", {} dropped", thousands(self.missed)));
        }
        if self.unknown_active > 0 {
            words.push_str(", severity counts are incomplete");
        }
        title(buffer, area, &words, theme.title(has_focus));
        let lines = layout.second.y..layout.second.bottom();
        let seen = self.shown_findings.iter().enumerate();
        for (y, (index, &finding)) in lines.zip(seen.skip(self.findings_scroll.offset)) {
            let Some(finding) = self.findings.get(finding) else {
                continue;
            };
            self.draw_finding(finding, y, buffer);
            if index == self.findings_scroll.selected && has_focus {
                let line = Rect::new(0, y, self.size.0, 1);
                buffer.set_style(line, theme.selected(true));
            }
        }
        if self.shown_findings.is_empty() && layout.second.height > 0 {
            let words = if self.findings.is_empty() {
                "no findings yet"
            } else {
                "no matches"
            };
            put(buffer, 0, layout.second.y, self.size.0, words, theme.dim());
        }
    }

    fn draw_finding(&self, finding: &FindingEvent, y: u16, buffer: &mut Buffer) {
        let theme = self.theme;
        let width = self.size.0;
        let style = match finding.change {
            FindingChange::Gone => theme.good(),
            FindingChange::Once => theme.critical(),
            _ => theme.severity(finding.severity),
        };
        let word = match finding.change {
            FindingChange::Found => "found",
            FindingChange::Changed => "changed",
            FindingChange::Gone => "gone",
            FindingChange::Once => "!",
        };
        let mut x = 0;
        let mut part = |wide: u16, text: &str, style: Style, buffer: &mut Buffer| {
            let wide = wide.min(width.saturating_sub(x));
            put(buffer, x, y, wide, text, style);
            x += wide + 1;
        };
        part(8, &finding.time, theme.dim(), buffer);
        part(7, word, style, buffer);
        if width >= 70 {
            let severity = finding.severity.map_or("", |severity| severity.name());
            part(8, severity, style, buffer);
        }
        if let Some(pid) = finding.pid {
            let wide = if width >= 112 { 24 } else { 18.min(width / 4) };
            let process = format!("{}[{pid}]", finding.comm);
            part(wide, &process, theme.bold(), buffer);
        }
        let words = match finding.why.as_str() {
            "" => finding.what.clone(),
            why => format!("{}  ({why})", finding.what),
        };
        part(width, &words, Style::new(), buffer);
    }
}

const fn is_number(column: Column) -> bool {
    matches!(
        column,
        Column::Pid | Column::Descriptors | Column::Duplicates | Column::Growth
    )
}

fn cell(theme: Theme, row: &Row, column: Column, area: Rect, buffer: &mut Buffer) {
    let Rect {
        x, y, width: wide, ..
    } = area;
    let plain = Style::new();
    let mut right = |text: &str, style| put_right(buffer, x, y, wide, text, style);
    match column {
        Column::Pid => right(&row.pid.to_string(), plain),
        Column::Descriptors => right(&short(row.descriptors), theme.bold()),
        Column::Duplicates => match row.duplicates {
            0 => right("-", theme.dim()),
            some => right(&short(some), theme.warning()),
        },
        Column::Growth => match row.per_hour() {
            None => right("", plain),
            Some(0) => right("0", theme.dim()),
            Some(more) => {
                let sign = if more < 0 { '-' } else { '+' };
                let style = if more > 0 { theme.warning() } else { plain };
                right(&format!("{sign}{}", short(more.unsigned_abs())), style);
            }
        },
        Column::User => put(buffer, x, y, wide, &row.user, plain),
        Column::Limit => {
            let Some(percent) = row.percent() else {
                return;
            };
            let style = theme.fill(percent);
            put_right(
                buffer,
                x,
                y,
                4.min(wide),
                &format!("{}%", percent.min(999)),
                style,
            );
            let bar = wide.saturating_sub(5);
            let full = percent.min(100) * u64::from(bar) / 100;
            let full = u16::try_from(full).unwrap_or(bar);
            let full = full.max(u16::from(percent > 0 && bar > 0));
            for column in 0..bar {
                let (block, style) = if column < full {
                    ("█", style)
                } else {
                    ("·", theme.dim())
                };
                put(buffer, x + 5 + column, y, 1, block, style);
            }
        }
        Column::Curve => draw_curve(theme, &row.curve, area, buffer),
        Column::Name => {
            put(buffer, x, y, wide, &row.comm, theme.bold());
            let after = u16::try_from(unicode_width::UnicodeWidthStr::width(row.comm.as_str()));
            let after = after.unwrap_or(wide).saturating_add(1);
            // Units have no column of their own on a narrow screen.
            if wide > after && area.x + wide >= buffer.area.width {
                let style = theme.dim();
                put(buffer, x + after, y, wide - after, &row.unit, style);
            }
        }
        Column::Unit => put(buffer, x, y, wide, &row.unit, plain),
    }
}
