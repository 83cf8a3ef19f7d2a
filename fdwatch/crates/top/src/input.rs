//! What keys and the mouse do. What is shown in consequence is not known here.

use ratatui::{
    crossterm::event::{
        KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
    },
    layout::{Position, Rect},
};

use super::{
    Action, Column, MAX_TYPED, Pane, Popup, Top,
    list::Scroll,
    view::{self, Label},
};

/// How far the mouse's wheel goes at once.
const WHEEL: isize = 3;

/// As far as there is.
const ALL: isize = isize::MAX / 2;

impl Top {
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Action> {
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
            self.key_of_popup(key.code);
            return None;
        }
        if self.is_typing && self.typed(key.code) {
            return None;
        }
        if self.opened.is_some() {
            self.key_of_process(key.code)
        } else {
            self.key_of_list(key.code)
        }
    }

    /// Keys of the list of processes and the findings.
    fn key_of_list(&mut self, code: KeyCode) -> Option<Action> {
        match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc => {
                self.filter.clear();
                self.filtered();
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::Char('<' | ',') => self.sort_beside(-1),
            KeyCode::Char('>' | '.') => self.sort_beside(1),
            KeyCode::F(6) => {
                let sorted = Column::SORTED.iter();
                let at = sorted.clone().position(|&column| column == self.sort);
                self.popup = Some(Popup::Sort(at.unwrap_or(0)));
            }
            KeyCode::Char('I') => {
                self.is_reversed = !self.is_reversed;
                self.order();
            }
            KeyCode::Char('f') => {
                self.hides_news = !self.hides_news;
                self.pane = Pane::Main;
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.hides_news = false;
                self.pane = self.pane.other();
            }
            KeyCode::Char(letter) if letter.is_ascii_uppercase() => {
                let mut sorted = Column::SORTED.into_iter();
                if let Some(column) = sorted.find(|column| column.words().1 == letter) {
                    self.sort_by(column);
                }
            }
            code => self.key_of_both(code),
        }
        None
    }

    /// Keys of an opened process.
    fn key_of_process(&mut self, code: KeyCode) -> Option<Action> {
        let opened = self.opened.as_mut()?;
        match code {
            KeyCode::Esc if !opened.filter.is_empty() => {
                opened.filter.clear();
                opened.choose();
            }
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                return Some(self.close());
            }
            KeyCode::Tab | KeyCode::BackTab => opened.pane = opened.pane.other(),
            code => self.key_of_both(code),
        }
        None
    }

    fn key_of_both(&mut self, code: KeyCode) {
        match code {
            KeyCode::F(1) | KeyCode::Char('?' | 'h') => {
                self.popup = Some(Popup::Help(Scroll::default()));
            }
            KeyCode::F(3 | 4) | KeyCode::Char('/' | '\\') => {
                self.is_typing = true;
                // A story is not filtered.
                if let Some(opened) = &mut self.opened {
                    opened.pane = Pane::Main;
                }
            }
            KeyCode::Char(' ' | 'z' | 'Z') => self.freeze(),
            code => {
                if let Some(steps) = steps(code, self.page()) {
                    self.go(self.pane_now(), steps);
                }
            }
        }
    }

    /// A key of the text that is typed. Whether it was one.
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
                if !character.is_control() && filter.chars().count() < MAX_TYPED {
                    filter.push(character);
                }
            }
            _ => return false,
        }
        self.filtered();
        true
    }

    pub(super) fn paste(&mut self, text: &str) {
        if self.is_typing && self.popup.is_none() {
            for character in text.lines().next().unwrap_or_default().chars() {
                self.typed(KeyCode::Char(character));
            }
        }
    }

    fn key_of_popup(&mut self, code: KeyCode) {
        let page = self.page();
        match &mut self.popup {
            Some(Popup::Help(scroll)) => match steps(code, page) {
                Some(steps) => scroll.by(steps),
                None => self.popup = None,
            },
            Some(Popup::Sort(at)) => {
                let last = Column::SORTED.len() - 1;
                match code {
                    KeyCode::Enter => {
                        let column = Column::SORTED[(*at).min(last)];
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

    /// Opens who is chosen.
    fn enter(&mut self) -> Option<Action> {
        let pid = match self.pane {
            Pane::Main => {
                let row = self.shown.get(self.list.chosen)?;
                self.rows[*row].pid
            }
            Pane::Other => {
                let news = self.news_shown.get(self.news_at.chosen)?;
                self.news[*news].pid?
            }
        };
        Some(self.open(pid))
    }

    /// Sorts by the next column, or the one before.
    fn sort_beside(&mut self, steps: isize) {
        let mut sorted = Column::SORTED.iter();
        let at = sorted.position(|&column| column == self.sort).unwrap_or(0);
        let last = Column::SORTED.len() - 1;
        let beside = at.saturating_add_signed(steps).min(last);
        if beside != at {
            self.sort_by(Column::SORTED[beside]);
        }
    }

    fn pane_now(&self) -> Pane {
        self.opened.as_ref().map_or(self.pane, |opened| opened.pane)
    }

    /// Entries of a page of the pane that keys go to.
    fn page(&self) -> isize {
        let places = self.places();
        let height = match self.pane_now() {
            Pane::Main => places.main.height,
            Pane::Other => places.other.height,
        };
        isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    /// Chooses what is so much further on in a pane.
    fn go(&mut self, pane: Pane, steps: isize) {
        let scroll = match (&mut self.opened, pane) {
            (Some(opened), Pane::Main) => &mut opened.list,
            (Some(opened), Pane::Other) => &mut opened.story_at,
            (None, Pane::Main) => &mut self.list,
            (None, Pane::Other) => &mut self.news_at,
        };
        scroll.by(steps);
        self.settle();
        if self.opened.is_none() && pane == Pane::Main {
            self.hold();
        }
    }

    /// Whoever is chosen stays so, wherever they go in the list; but who stands first.
    fn hold(&mut self) {
        let row = self.shown.get(self.list.chosen);
        let row = row.map(|&row| &self.rows[row]);
        self.chosen = row
            .filter(|_| self.list.chosen > 0)
            .map(|row| (row.pid, row.start_time));
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent) -> Option<Action> {
        let places = self.places();
        let at = Position::new(mouse.column, mouse.row);
        let is_other = places.other.contains(at) || places.other_title.contains(at);
        let pane = if is_other { Pane::Other } else { Pane::Main };
        let steps = match mouse.kind {
            MouseEventKind::ScrollUp => -WHEEL,
            MouseEventKind::ScrollDown => WHEEL,
            MouseEventKind::Down(MouseButton::Left) => return self.click(at, pane),
            _ => return None,
        };
        match &mut self.popup {
            Some(Popup::Help(scroll)) => scroll.by(steps),
            Some(Popup::Sort(_)) => {}
            None => self.go(pane, steps),
        }
        None
    }

    fn click(&mut self, at: Position, pane: Pane) -> Option<Action> {
        let places = self.places();
        if places.is_too_small {
            return None;
        }
        if let Some(popup) = &self.popup {
            if let Popup::Sort(_) = popup {
                let area = view::sort_area(self.size);
                let line = at.y.checked_sub(area.y + 1).map(usize::from);
                let line = line.filter(|_| area.contains(at));
                let column = line.and_then(|line| Column::SORTED.get(line));
                if let Some(&column) = column
                    && column != self.sort
                {
                    self.sort_by(column);
                }
            }
            self.popup = None;
            return None;
        }
        if places.footer.contains(at) {
            let label = view::label_at(self, at.x)?;
            let Label { key, .. } = label;
            self.is_typing = false;
            return self.key(KeyEvent::new(key, KeyModifiers::NONE));
        }
        match &mut self.opened {
            Some(opened) => {
                opened.pane = pane;
                if let Some(line) = line_in(places.main, at) {
                    opened.list.chosen = opened.list.offset + line;
                }
                None
            }
            None => {
                if places.main.contains(at) || is_any(places.other, places.other_title, at) {
                    self.pane = pane;
                }
                if places.main_title.contains(at) {
                    let columns = Column::places(self.size.0).into_iter();
                    let mut hit = columns.filter(|&(_, x, wide)| (x..=x + wide).contains(&at.x));
                    if let Some((column, ..)) = hit.next() {
                        self.sort_by(column);
                    }
                    return None;
                }
                if let Some(line) = line_in(places.main, at)
                    && self.list.offset + line < self.shown.len()
                {
                    self.list.chosen = self.list.offset + line;
                    self.hold();
                } else if let Some(line) = line_in(places.other, at)
                    && self.news_at.offset + line < self.news_shown.len()
                {
                    self.news_at.chosen = self.news_at.offset + line;
                } else {
                    return None;
                }
                // A second click on the same opens it.
                let now = (self.pane, self.list.chosen, self.news_at.chosen);
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
            Self::Main => Self::Other,
            Self::Other => Self::Main,
        }
    }
}

fn is_any(one: Rect, other: Rect, at: Position) -> bool {
    one.contains(at) || other.contains(at)
}

fn line_in(area: Rect, at: Position) -> Option<usize> {
    area.contains(at).then(|| usize::from(at.y - area.y))
}

/// How far a key goes.
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
