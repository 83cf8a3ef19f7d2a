//! Handles messages: keys, the mouse, pasted text, resizes and updates.

use ratatui::{
    crossterm::event::{
        KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
    },
    layout::{Position, Rect},
};

use super::{
    Action, Column, MAX_FILTER_LEN, Message, Pane, Popup, Top,
    list::Scroll,
    view::{self, Label},
};

/// Lines that a step of the mouse wheel scrolls.
const WHEEL: isize = 3;

/// Distance to the end of any list.
const ALL: isize = isize::MAX / 2;

impl Top {
    /// Applies a message, and returns the action it requests.
    pub(crate) fn update(&mut self, message: Message) -> Option<Action> {
        let action = match message {
            Message::Key(key) => self.key(key),
            Message::Mouse(mouse) => self.mouse(mouse),
            Message::Paste(text) => {
                self.paste(&text);
                None
            }
            Message::Resize(width, height) => {
                self.size = (width, height);
                Some(Action::Redraw)
            }
            Message::Update(update) => {
                self.apply(update);
                None
            }
        };
        self.clamp();
        action
    }

    fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Action::Quit),
                KeyCode::Char('z') => Some(Action::Suspend),
                KeyCode::Char('l') => Some(Action::Redraw),
                _ => None,
            };
        }
        if key.code == KeyCode::F(10) {
            return Some(Action::Quit);
        }
        self.note = None;
        self.clicked = None;
        if self.popup.is_some() {
            self.popup_key(key.code);
            return None;
        }
        if self.is_typing && self.typed(key.code) {
            return None;
        }
        if self.opened.is_some() {
            self.process_key(key.code)
        } else {
            self.list_key(key.code)
        }
    }

    /// Handles a key in the list.
    fn list_key(&mut self, code: KeyCode) -> Option<Action> {
        match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc => {
                self.filter.clear();
                self.refilter();
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::Char('<' | ',') => self.sort_by_neighbour(-1),
            KeyCode::Char('>' | '.') => self.sort_by_neighbour(1),
            KeyCode::F(6) => {
                let sorted = Column::SORTABLE.iter();
                let at = sorted.clone().position(|&column| column == self.sort);
                self.popup = Some(Popup::Sort(at.unwrap_or(0)));
            }
            KeyCode::Char('I') => {
                self.is_reversed = !self.is_reversed;
                self.sort_rows();
            }
            KeyCode::Char('f') => {
                self.hides_findings = !self.hides_findings;
                self.pane = Pane::Main;
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.hides_findings = false;
                self.pane = self.pane.other();
            }
            KeyCode::Char(letter) if letter.is_ascii_uppercase() => {
                let mut sorted = Column::SORTABLE.into_iter();
                if let Some(column) = sorted.find(|column| column.description().1 == letter) {
                    self.sort_by(column);
                }
            }
            code => self.common_key(code),
        }
        None
    }

    /// Handles a key in a process view.
    fn process_key(&mut self, code: KeyCode) -> Option<Action> {
        let opened = self.opened.as_mut()?;
        match code {
            KeyCode::Esc if !opened.filter.is_empty() => {
                opened.filter.clear();
                opened.apply_filter();
            }
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                return Some(self.close());
            }
            KeyCode::Tab | KeyCode::BackTab => opened.pane = opened.pane.other(),
            code => self.common_key(code),
        }
        None
    }

    /// Handles a key that both views have.
    fn common_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::F(1) | KeyCode::Char('?' | 'h') => {
                self.popup = Some(Popup::Help(Scroll::default()));
            }
            KeyCode::F(3 | 4) | KeyCode::Char('/' | '\\') => {
                self.is_typing = true;
                // Explanations have no filter.
                if let Some(opened) = &mut self.opened {
                    opened.pane = Pane::Main;
                }
            }
            KeyCode::Char(' ' | 'z' | 'Z') => self.toggle_freeze(),
            code => {
                if let Some(steps) = steps(code, self.page()) {
                    self.scroll(self.active_pane(), steps);
                }
            }
        }
    }

    /// Edits the filter. Returns whether the key did that.
    fn typed(&mut self, code: KeyCode) -> bool {
        let filter = match &mut self.opened {
            Some(opened) => &mut opened.filter,
            None => &mut self.filter,
        };
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => {
                filter.pop();
            }
            KeyCode::Char(character) => {
                if !character.is_control() && filter.chars().count() < MAX_FILTER_LEN {
                    filter.push(character);
                }
            }
            _ => return false,
        }
        self.refilter();
        true
    }

    fn paste(&mut self, text: &str) {
        if self.is_typing && self.popup.is_none() {
            for character in text.lines().next().unwrap_or_default().chars() {
                self.typed(KeyCode::Char(character));
            }
        }
    }

    fn popup_key(&mut self, code: KeyCode) {
        let page = self.page();
        match &mut self.popup {
            Some(Popup::Help(scroll)) => match steps(code, page) {
                Some(steps) => scroll.by(steps),
                None => self.popup = None,
            },
            Some(Popup::Sort(at)) => {
                let last = Column::SORTABLE.len() - 1;
                match code {
                    KeyCode::Enter => {
                        let column = Column::SORTABLE[(*at).min(last)];
                        self.popup = None;
                        if column != self.sort {
                            self.sort_by(column);
                        }
                    }
                    code => match steps(code, page) {
                        Some(steps) => *at = at.saturating_add_signed(steps).min(last),
                        None => self.popup = None,
                    },
                }
            }
            None => {}
        }
    }

    /// Opens the selected process, or that of the selected finding.
    fn enter(&mut self) -> Option<Action> {
        let pid = match self.pane {
            Pane::Main => {
                let row = self.shown.get(self.list.selected)?;
                self.rows[*row].pid
            }
            Pane::Second => {
                let finding = self.shown_findings.get(self.findings_scroll.selected)?;
                self.findings[*finding].pid?
            }
        };
        Some(self.open(pid))
    }

    /// Sorts by the next or previous column.
    fn sort_by_neighbour(&mut self, steps: isize) {
        let mut sorted = Column::SORTABLE.iter();
        let at = sorted.position(|&column| column == self.sort).unwrap_or(0);
        let last = Column::SORTABLE.len() - 1;
        let neighbour = at.saturating_add_signed(steps).min(last);
        if neighbour != at {
            self.sort_by(Column::SORTABLE[neighbour]);
        }
    }

    fn active_pane(&self) -> Pane {
        self.opened.as_ref().map_or(self.pane, |opened| opened.pane)
    }

    /// Returns the lines of a page in the active pane.
    fn page(&self) -> isize {
        let layout = self.layout();
        let height = match self.active_pane() {
            Pane::Main => layout.main.height,
            Pane::Second => layout.second.height,
        };
        isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    /// Moves the selection of a pane.
    fn scroll(&mut self, pane: Pane, steps: isize) {
        let scroll = match (&mut self.opened, pane) {
            (Some(opened), Pane::Main) => &mut opened.list,
            (Some(opened), Pane::Second) => &mut opened.explanation_scroll,
            (None, Pane::Main) => &mut self.list,
            (None, Pane::Second) => &mut self.findings_scroll,
        };
        scroll.by(steps);
        self.clamp();
        if self.opened.is_none() && pane == Pane::Main {
            self.pin_selection();
        }
    }

    /// Pins the selection to the process, so that it follows it in the list. The first position is not pinned.
    fn pin_selection(&mut self) {
        let row = self.shown.get(self.list.selected);
        let row = row.map(|&row| &self.rows[row]);
        self.selected = row
            .filter(|_| self.list.selected > 0)
            .map(|row| (row.pid, row.start_time));
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Option<Action> {
        let layout = self.layout();
        let at = Position::new(mouse.column, mouse.row);
        let is_second = is_any(layout.second, layout.second_title, at);
        let pane = if is_second { Pane::Second } else { Pane::Main };
        let steps = match mouse.kind {
            MouseEventKind::ScrollUp => -WHEEL,
            MouseEventKind::ScrollDown => WHEEL,
            MouseEventKind::Down(MouseButton::Left) => return self.click(at, pane),
            _ => return None,
        };
        match &mut self.popup {
            Some(Popup::Help(scroll)) => scroll.by(steps),
            Some(Popup::Sort(_)) => {}
            None => self.scroll(pane, steps),
        }
        None
    }

    fn click(&mut self, at: Position, pane: Pane) -> Option<Action> {
        let layout = self.layout();
        if layout.is_too_small {
            return None;
        }
        if let Some(popup) = &self.popup {
            if let Popup::Sort(_) = popup {
                let area = view::sort_area(self.size);
                let line = at.y.checked_sub(area.y + 1).map(usize::from);
                let line = line.filter(|_| area.contains(at));
                let column = line.and_then(|line| Column::SORTABLE.get(line));
                if let Some(&column) = column
                    && column != self.sort
                {
                    self.sort_by(column);
                }
            }
            self.popup = None;
            return None;
        }
        if layout.footer.contains(at) {
            let label = view::label_at(self, at.x)?;
            let Label { key, .. } = label;
            self.is_typing = false;
            return self.key(KeyEvent::new(key, KeyModifiers::NONE));
        }
        match &mut self.opened {
            Some(opened) => {
                opened.pane = pane;
                if let Some(line) = line_in(layout.main, at) {
                    opened.list.selected = opened.list.offset + line;
                }
                None
            }
            None => {
                if layout.main.contains(at) || is_any(layout.second, layout.second_title, at) {
                    self.pane = pane;
                }
                if layout.main_title.contains(at) {
                    let columns = Column::layout(self.size.0).into_iter();
                    let mut hit = columns.filter(|&(_, x, wide)| (x..=x + wide).contains(&at.x));
                    if let Some((column, ..)) = hit.next() {
                        self.sort_by(column);
                    }
                    return None;
                }
                if let Some(line) = line_in(layout.main, at)
                    && self.list.offset + line < self.shown.len()
                {
                    self.list.selected = self.list.offset + line;
                    self.pin_selection();
                } else if let Some(line) = line_in(layout.second, at)
                    && self.findings_scroll.offset + line < self.shown_findings.len()
                {
                    self.findings_scroll.selected = self.findings_scroll.offset + line;
                } else {
                    return None;
                }
                // A second click on the same entry opens it.
                let now = (self.pane, self.list.selected, self.findings_scroll.selected);
                if self.clicked.replace(now) == Some(now) {
                    self.clicked = None;
                    return self.enter();
                }
                None
            }
        }
    }
}

impl Pane {
    const fn other(self) -> Self {
        match self {
            Self::Main => Self::Second,
            Self::Second => Self::Main,
        }
    }
}

/// Returns whether one of the areas contains the position.
fn is_any(one: Rect, other: Rect, at: Position) -> bool {
    one.contains(at) || other.contains(at)
}

/// Returns the line of an area at the position.
fn line_in(area: Rect, at: Position) -> Option<usize> {
    area.contains(at).then(|| usize::from(at.y - area.y))
}

/// Returns how far a key moves the selection.
const fn steps(code: KeyCode, page: isize) -> Option<isize> {
    Some(match code {
        KeyCode::Up => -1,
        KeyCode::Down => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown => page,
        KeyCode::Home => -ALL,
        KeyCode::End => ALL,
        _ => return None,
    })
}
