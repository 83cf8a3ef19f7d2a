//! Draws the screen.

mod lists;
mod paint;
mod popup;
mod process;

use ratatui::{
    Frame,
    buffer::Buffer,
    crossterm::event::KeyCode,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Widget as _,
};
use unicode_width::UnicodeWidthStr as _;

use self::paint::put;
pub(super) use self::popup::sort_area;
use super::{Popup, Top, layout::MIN_SIZE};
use fdwatch_core::plural::thousands;
use fdwatch_core::{diagnose::Severity, plural::noun};

/// A key in the footer, and its function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) key: KeyCode,
    name: &'static str,
    words: &'static str,
}

const fn label(key: KeyCode, name: &'static str, words: &'static str) -> Label {
    Label { key, name, words }
}

/// Footer of the list; the last keys are omitted if there is no room.
const LIST_KEYS: [Label; 7] = [
    label(KeyCode::F(1), "F1", "Help"),
    label(KeyCode::F(10), "F10", "Quit"),
    label(KeyCode::F(4), "F4", "Filter"),
    label(KeyCode::F(6), "F6", "Sort"),
    label(KeyCode::Enter, "Enter", "Open"),
    label(KeyCode::Char(' '), "Space", "Freeze"),
    label(KeyCode::Tab, "Tab", "Findings"),
];

/// Footer of a process view.
const PROCESS_KEYS: [Label; 6] = [
    label(KeyCode::F(1), "F1", "Help"),
    label(KeyCode::F(10), "F10", "Quit"),
    label(KeyCode::Esc, "Esc", "Back"),
    label(KeyCode::F(4), "F4", "Filter"),
    label(KeyCode::Tab, "Tab", "Explain"),
    label(KeyCode::Char(' '), "Space", "Freeze"),
];

impl Top {
    /// Draws the screen.
    pub(crate) fn view(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let buffer = frame.buffer_mut();
        self.draw(area, buffer);
        self.theme.finish(buffer);
    }

    fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let layout = self.layout();
        // The terminal may have shrunk since the last resize event.
        if layout.is_too_small || area.width < self.size.0 || area.height < self.size.1 {
            self.draw_too_small(area, buffer);
            return;
        }
        self.draw_header(layout.header, buffer);
        match &self.opened {
            Some(opened) => self.draw_process(opened, &layout, buffer),
            None => {
                self.draw_rows(&layout, buffer);
                self.draw_findings(&layout, buffer);
            }
        }
        self.draw_footer(layout.footer, buffer);
        match &self.popup {
            Some(Popup::Help(scroll)) => popup::help(self, *scroll, buffer),
            Some(Popup::Sort(at)) => popup::sort(self, *at, buffer),
            None => {}
        }
    }

    fn draw_too_small(&self, area: Rect, buffer: &mut Buffer) {
        let (width, height) = MIN_SIZE;
        let words = [
            "Terminal too small".to_owned(),
            format!("size: {} x {}", self.size.0, self.size.1),
            format!("needed: {width} x {height}"),
            "q quits".to_owned(),
        ];
        for (line, words) in (area.y..area.bottom()).zip(&words) {
            put(buffer, area.x, line, area.width, words, Style::new());
        }
    }

    fn draw_header(&self, area: Rect, buffer: &mut Buffer) {
        let theme = self.theme;
        let Some(status) = &self.status else {
            put(buffer, area.x, area.y, area.width, "fdwatch", theme.bold());
            return;
        };
        let plain = Style::new();
        let count = |count: u64, word: &str, style: Style| {
            let style = if count > 0 { style } else { theme.dim() };
            vec![Span::styled(format!("{} {word}", thousands(count)), style)]
        };
        let [info, warning, critical] = self.by_severity();
        let mut findings = Vec::new();
        for (number, severity) in [
            (critical, Severity::Critical),
            (warning, Severity::Warning),
            (info, Severity::Info),
        ] {
            findings.push(count(
                number,
                severity.name(),
                theme.severity(Some(severity)),
            ));
        }
        let memory = fdwatch_render::size(status.memory);
        let over = status.max_cpu > 0.0 && self.cpu > status.max_cpu;
        let style = if over { theme.warning() } else { plain };
        let cpu = format!("CPU {:.1}% of {}%", self.cpu, status.max_cpu);
        let mut items = vec![
            vec![Span::styled("fdwatch", theme.bold())],
            vec![Span::styled(status.host.clone(), theme.accent())],
            vec![Span::raw(status.time.clone())],
            count(status.processes, &noun(&status.processes, "process"), plain),
            count(
                status.descriptors,
                &noun(&status.descriptors, "descriptor"),
                plain,
            ),
        ];
        items.append(&mut findings);
        items.push(vec![Span::raw(format!(
            "{} events/s",
            thousands(rounded(self.rate))
        ))]);
        items.push(count(status.lost, "lost", theme.critical()));
        items.push(count(status.drift, "drift", theme.warning()));
        items.push(vec![Span::styled(cpu, style)]);
        items.push(vec![Span::raw(memory)]);
        if status.sheds != "nothing" {
            let skipped = format!("skipped: {}", status.sheds);
            items.push(vec![Span::styled(skipped, theme.warning())]);
        }
        items.push(vec![Span::styled(status.source.clone(), theme.dim())]);
        let mut line = area.y;
        let mut x = area.x;
        for item in items {
            let item = Line::from(item);
            let wide = u16::try_from(item.width()).unwrap_or(u16::MAX);
            if x > area.x && x.saturating_add(wide) > area.right() {
                line += 1;
                x = area.x;
            }
            if line >= area.bottom() {
                break;
            }
            let place = Rect::new(x, line, wide.min(area.right() - x), 1);
            item.render(place, buffer);
            x = (x + place.width + 2).min(area.right());
        }
    }

    fn draw_footer(&self, area: Rect, buffer: &mut Buffer) {
        let theme = self.theme;
        if self.is_typing {
            let filter = self.active_filter();
            let words = format!("Filter: {filter}");
            put(buffer, area.x, area.y, area.width, &words, theme.bold());
            let at = u16::try_from(words.width()).unwrap_or(u16::MAX);
            if at < area.width {
                let cell = Rect::new(area.x + at, area.y, 1, 1);
                buffer.set_style(cell, Style::new().add_modifier(Modifier::REVERSED));
            }
            let hint = "  Enter: apply, Esc: clear";
            let from = at.saturating_add(1);
            if area.width.saturating_sub(from) >= 30 {
                put(
                    buffer,
                    area.x + from,
                    area.y,
                    area.width - from,
                    hint,
                    theme.dim(),
                );
            }
            return;
        }
        if let Some(note) = &self.note {
            put(buffer, area.x, area.y, area.width, note, theme.warning());
            return;
        }
        let mut right = area.right();
        if let Some(frozen) = &self.frozen {
            let words = format!(" frozen, {} new ", frozen.findings.len());
            let wide = u16::try_from(words.width()).unwrap_or(0).min(area.width);
            right -= wide;
            let style = theme.warning().add_modifier(Modifier::REVERSED);
            put(buffer, right, area.y, wide, &words, style);
        }
        for (label, from, to) in labels(self) {
            if to <= right {
                let key = u16::try_from(label.name.len()).unwrap_or(0);
                put(buffer, from, area.y, key, label.name, theme.key());
                let words = (to - from).saturating_sub(key);
                put(buffer, from + key, area.y, words, label.words, Style::new());
            }
        }
    }

    fn active_filter(&self) -> &str {
        match &self.opened {
            Some(opened) => &opened.filter,
            None => &self.filter,
        }
    }

    /// Returns the part of a title that names the filter.
    fn filter_words(&self) -> String {
        match self.active_filter() {
            "" => String::new(),
            filter => format!(", filter '{filter}'"),
        }
    }
}

/// Returns the keys of the footer, each with its first column and the one after its last.
fn labels(top: &Top) -> impl Iterator<Item = (Label, u16, u16)> {
    let labels: &[Label] = if top.opened.is_some() {
        &PROCESS_KEYS
    } else {
        &LIST_KEYS
    };
    let width = top.size.0;
    let mut x = 0;
    labels.iter().map_while(move |&label| {
        let wide = label.name.len() + label.words.len();
        let to = x + u16::try_from(wide).unwrap_or(0);
        let from = std::mem::replace(&mut x, to + 1);
        (to <= width).then_some((label, from, to))
    })
}

/// Returns the key of the footer in a column.
pub(super) fn label_at(top: &Top, x: u16) -> Option<Label> {
    let mut labels = labels(top);
    let label = labels.find(|&(_, from, to)| (from..to).contains(&x));
    label.map(|(label, ..)| label)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and is not negative"
)]
fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}
