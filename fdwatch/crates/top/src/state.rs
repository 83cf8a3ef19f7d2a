//! The full screen, without the screen: what it shows, and what keys, the mouse and news make of that.
//!
//! Pure. [`Top::update`] takes one message and may give a wish; [`Top::view`] draws what there is. No
//! I/O, no clock, and nothing of where the news is from.

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use crate::{
    data::{Descriptors, Happened, News, Row, Status},
    list::{Scroll, lets_through},
    places::{Places, Wanted},
};
use crate::{list::Column, theme::Theme};
use fdwatch_core::diagnose::Severity;

/// Findings that are kept; older ones are counted.
pub(crate) const MAX_NEWS: usize = 1000;

/// Findings that are there and are known; more are counted.
pub(crate) const MAX_ACTIVE: usize = 20_000;

/// Lines of a story that are kept.
pub(crate) const MAX_LINES: usize = 5000;

/// Characters of a filter.
pub(crate) const MAX_TYPED: usize = 100;

/// News from where events are followed.
#[derive(Clone, Debug)]
pub enum Update {
    /// How things are.
    Status(Box<Status>),
    /// The processes that are shown, and how many more there are.
    Rows(Vec<Row>, u64),
    /// What was told.
    News(Vec<News>),
    /// So many things were told that there was no room for.
    Missed(u64),
    /// The table of the process that was opened.
    Table(Box<Descriptors>),
    /// The story of a process: lines.
    Story(u32, Vec<String>),
    /// What was asked of a process cannot be told: why.
    Failed(u32, String),
    /// Something to say besides.
    Note(String),
}

/// What happens to the screen.
#[derive(Clone, Debug)]
pub enum Message {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// Text that was put in at once.
    Paste(String),
    /// The screen has another size: columns, lines.
    Resize(u16, u16),
    /// There is news.
    Update(Update),
}

/// What is wanted of those who have the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To end.
    Quit,
    /// To give the terminal back for a while.
    Suspend,
    /// To draw all of it again.
    Redraw,
    /// To follow one process.
    Open(u32),
    /// To follow it no more.
    Close,
}

/// Which of the two panes keys go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pane {
    /// The processes, or one's descriptors.
    #[default]
    Main,
    /// The findings, or a process's story.
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Popup {
    Help(Scroll),
    /// The column that is chosen.
    Sort(usize),
}

/// A finding that is there.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) severity: Severity,
    pub(crate) pid: Option<u32>,
    pub(crate) what: String,
}

/// What has come since it was frozen.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) status: Option<Box<Status>>,
    pub(crate) rows: Option<(Vec<Row>, u64)>,
    pub(crate) news: VecDeque<News>,
    pub(crate) missed: u64,
    pub(crate) table: Option<Box<Descriptors>>,
    pub(crate) story: Option<(u32, Vec<String>)>,
}

/// A process that was opened.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// As the list had it last.
    pub(crate) row: Row,
    pub(crate) is_gone: bool,
    pub(crate) table: Option<Box<Descriptors>>,
    /// Which of the table's rows are shown.
    pub(crate) shown: Vec<usize>,
    pub(crate) filter: String,
    pub(crate) list: Scroll,
    pub(crate) story: Vec<String>,
    pub(crate) story_at: Scroll,
    pub(crate) failed: Option<String>,
    pub(crate) pane: Pane,
}

/// The full screen.
#[derive(Debug)]
pub struct Top {
    pub(crate) theme: Theme,
    pub(crate) size: (u16, u16),
    pub(crate) status: Option<Box<Status>>,
    /// Events in a second, and processor time in percent, between the last two looks.
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) more_rows: u64,
    /// Which of these are shown, in order.
    pub(crate) shown: Vec<usize>,
    pub(crate) list: Scroll,
    /// Who is chosen, once one was.
    pub(crate) chosen: Option<(u32, u64)>,
    pub(crate) sort: Column,
    pub(crate) is_reversed: bool,
    pub(crate) filter: String,
    pub(crate) is_typing: bool,
    /// The newest first.
    pub(crate) news: VecDeque<News>,
    /// Which of these are shown.
    pub(crate) news_shown: Vec<usize>,
    pub(crate) news_at: Scroll,
    pub(crate) more_news: u64,
    pub(crate) missed: u64,
    pub(crate) active: BTreeMap<String, Active>,
    /// Findings that there was no room to know of.
    pub(crate) unknown_active: u64,
    pub(crate) pane: Pane,
    pub(crate) hides_news: bool,
    pub(crate) held: Option<Held>,
    pub(crate) opened: Option<Opened>,
    pub(crate) popup: Option<Popup>,
    pub(crate) note: Option<String>,
    /// What was clicked on last: the pane, and what is chosen in each.
    pub(crate) clicked: Option<(Pane, usize, usize)>,
}

impl Top {
    /// An empty one on a screen of `size`: columns, lines.
    #[must_use]
    pub fn new(theme: Theme, size: (u16, u16)) -> Self {
        Self {
            theme,
            size,
            status: None,
            rate: 0.0,
            cpu: 0.0,
            rows: Vec::new(),
            more_rows: 0,
            shown: Vec::new(),
            list: Scroll::default(),
            chosen: None,
            sort: Column::Descriptors,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            news: VecDeque::new(),
            news_shown: Vec::new(),
            news_at: Scroll::default(),
            more_news: 0,
            missed: 0,
            active: BTreeMap::new(),
            unknown_active: 0,
            pane: Pane::Main,
            hides_news: false,
            held: None,
            opened: None,
            popup: None,
            note: None,
            clicked: None,
        }
    }

    /// Takes a message.
    pub fn update(&mut self, message: Message) -> Option<Action> {
        let wish = match message {
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
                self.take(update);
                None
            }
        };
        self.settle();
        wish
    }

    pub(crate) fn take(&mut self, update: Update) {
        match update {
            Update::Status(status) => match &mut self.held {
                Some(held) => held.status = Some(status),
                None => self.take_status(status),
            },
            Update::Rows(rows, more) => match &mut self.held {
                Some(held) => held.rows = Some((rows, more)),
                None => self.take_rows(rows, more),
            },
            Update::News(news) => {
                for news in news {
                    match &mut self.held {
                        Some(held) => {
                            if held.news.len() >= MAX_NEWS {
                                held.news.pop_front();
                                held.missed += 1;
                            }
                            held.news.push_back(news);
                        }
                        None => self.take_news(news),
                    }
                }
                self.choose_news();
            }
            Update::Missed(missed) => self.missed += missed,
            Update::Table(table) => match &mut self.held {
                Some(held) => held.table = Some(table),
                None => self.take_table(table),
            },
            Update::Story(pid, lines) => match &mut self.held {
                // What was opened is shown, also where time stands still.
                Some(held) if self.opened.as_ref().is_some_and(|it| !it.story.is_empty()) => {
                    held.story = Some((pid, lines));
                }
                _ => self.take_story(pid, lines),
            },
            Update::Failed(pid, reason) => {
                if let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == pid) {
                    opened.failed = Some(crate::data::clean(reason.as_bytes()));
                }
            }
            Update::Note(note) => self.note = Some(crate::data::clean(note.as_bytes())),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    pub(crate) fn take_status(&mut self, status: Box<Status>) {
        if let Some(before) = &self.status {
            let seconds = status.at.saturating_sub(before.at) as f64 / 1e9;
            if seconds > 0.1 {
                self.rate = status.events.saturating_sub(before.events) as f64 / seconds;
                self.cpu = (status.cpu_seconds - before.cpu_seconds).max(0.0) / seconds * 100.0;
            }
        }
        self.status = Some(status);
    }

    pub(crate) fn take_rows(&mut self, rows: Vec<Row>, more: u64) {
        self.rows = rows;
        self.more_rows = more;
        if let Some(opened) = &mut self.opened {
            let (pid, start_time) = (opened.row.pid, opened.row.start_time);
            let mut same = self.rows.iter();
            let same = same
                .find(|row| row.pid == pid && (row.start_time == start_time || start_time == 0));
            match same {
                Some(row) => opened.row = row.clone(),
                // Of those that are not shown nothing is known.
                None => opened.is_gone = more == 0,
            }
        }
        self.order();
    }

    pub(crate) fn take_news(&mut self, news: News) {
        if !news.key.is_empty() {
            match (news.happened, news.severity) {
                (Happened::Gone, _) => {
                    self.active.remove(&news.key);
                }
                (Happened::Found | Happened::Changed, Some(severity)) => {
                    if self.active.len() < MAX_ACTIVE || self.active.contains_key(&news.key) {
                        let active = Active {
                            severity,
                            pid: news.pid,
                            what: news.what.clone(),
                        };
                        self.active.insert(news.key.clone(), active);
                    } else {
                        self.unknown_active += 1;
                    }
                }
                _ => {}
            }
        }
        if self.news.len() >= MAX_NEWS {
            self.news.pop_back();
            self.more_news += 1;
        }
        let passes = self.passes(&news);
        self.news.push_front(news);
        // What is looked at stays where it is.
        if passes && self.pane == Pane::Other {
            self.news_at.chosen += 1;
            self.news_at.offset += 1;
        }
    }

    pub(crate) fn take_table(&mut self, table: Box<Descriptors>) {
        let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == table.pid) else {
            return;
        };
        opened.failed = None;
        if opened.row.comm.is_empty() {
            opened.row.comm.clone_from(&table.comm);
        }
        opened.table = Some(table);
        opened.choose();
    }

    pub(crate) fn take_story(&mut self, pid: u32, mut lines: Vec<String>) {
        if let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == pid) {
            lines.truncate(MAX_LINES);
            opened.story = lines;
        }
    }

    /// Stops the time, or lets it go on.
    pub(crate) fn freeze(&mut self) {
        let Some(held) = self.held.take() else {
            self.held = Some(Held::default());
            return;
        };
        if let Some(status) = held.status {
            self.take_status(status);
        }
        if let Some((rows, more)) = held.rows {
            self.take_rows(rows, more);
        }
        self.missed += held.missed;
        for news in held.news {
            self.take_news(news);
        }
        self.choose_news();
        if let Some(table) = held.table {
            self.take_table(table);
        }
        if let Some((pid, lines)) = held.story {
            self.take_story(pid, lines);
        }
    }

    /// Opens the process.
    pub(crate) fn open(&mut self, pid: u32) -> Action {
        let row = self.rows.iter().find(|row| row.pid == pid);
        let row = row.cloned().unwrap_or_else(|| Row {
            pid,
            ..Row::default()
        });
        self.opened = Some(Opened {
            row,
            ..Opened::default()
        });
        if let Some(held) = &mut self.held {
            held.table = None;
            held.story = None;
        }
        Action::Open(pid)
    }

    pub(crate) fn close(&mut self) -> Action {
        self.opened = None;
        self.is_typing = false;
        Action::Close
    }

    /// Puts those that the filter lets through into their order.
    pub(crate) fn order(&mut self) {
        let filter = self.filter.to_lowercase();
        let mut paths: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        if !filter.is_empty() {
            for active in self.active.values() {
                if let Some(pid) = active.pid {
                    paths.entry(pid).or_default().push(&active.what);
                }
            }
        }
        let wanted = |row: &Row| {
            let pid = row.pid.to_string();
            let texts = [&pid, &row.comm, &row.unit, &row.user].map(String::as_str);
            lets_through(&filter, &texts)
                || paths
                    .get(&row.pid)
                    .is_some_and(|paths| lets_through(&filter, paths))
        };
        let rows = self.rows.iter().enumerate();
        self.shown = rows
            .filter(|(_, row)| wanted(row))
            .map(|(index, _)| index)
            .collect();
        let (rows, sort) = (&self.rows, self.sort);
        let is_most_first = sort.is_most_first() != self.is_reversed;
        self.shown.sort_by(|&one, &other| {
            let (one, other) = (&rows[one], &rows[other]);
            let order = sort.compare(one, other);
            let order = if is_most_first {
                order.reverse()
            } else {
                order
            };
            order.then(one.pid.cmp(&other.pid))
        });
        let chosen = self.chosen.and_then(|who| {
            let mut shown = self.shown.iter();
            shown.position(|&index| (rows[index].pid, rows[index].start_time) == who)
        });
        match (chosen, self.chosen) {
            (Some(at), _) => self.list.chosen = at,
            (None, Some(_)) => self.chosen = None,
            // Whoever stands first is chosen until another is.
            (None, None) => {}
        }
    }

    pub(crate) fn passes(&self, news: &News) -> bool {
        let pid = news.pid.map_or_else(String::new, |pid| pid.to_string());
        let texts = [pid.as_str(), &news.comm, &news.what, &news.why];
        lets_through(&self.filter.to_lowercase(), &texts)
    }

    pub(crate) fn choose_news(&mut self) {
        let news = self.news.iter().enumerate();
        self.news_shown = news
            .filter(|(_, news)| self.passes(news))
            .map(|(index, _)| index)
            .collect();
    }

    /// The filter is another, or what it is of.
    pub(crate) fn filtered(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.choose();
        } else {
            self.order();
            self.choose_news();
        }
    }

    pub(crate) fn sort_by(&mut self, column: Column) {
        if self.sort == column {
            self.is_reversed = !self.is_reversed;
        } else {
            self.sort = column;
            self.is_reversed = false;
        }
        self.order();
    }

    pub(crate) fn places(&self) -> Places {
        let (has_other, pane) = match &self.opened {
            Some(opened) => (true, opened.pane),
            None => (!self.hides_news, self.pane),
        };
        let wanted = Wanted {
            is_process: self.opened.is_some(),
            has_other,
            is_other: pane == Pane::Other,
        };
        Places::of(self.size, wanted)
    }

    /// Brings what is chosen and seen within what there is.
    pub(crate) fn settle(&mut self) {
        let places = self.places();
        let (main, other) = (places.main.height.into(), places.other.height.into());
        if let Some(opened) = &mut self.opened {
            opened.list.settle(opened.shown.len(), main);
            let lines = crate::view::story_lines(&opened.story, self.size.0);
            opened.story_at.settle_text(lines, other);
        } else {
            self.list.settle(self.shown.len(), main);
            self.news_at.settle(self.news_shown.len(), other);
        }
        if let Some(Popup::Help(scroll)) = &mut self.popup {
            let height = usize::from(self.size.1).saturating_sub(4);
            scroll.settle_text(crate::view::help_lines(), height);
        }
    }

    /// How many findings are there: info, warning, critical.
    pub(crate) fn by_severity(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for active in self.active.values() {
            counts[active.severity as usize] += 1;
        }
        counts
    }
}

impl Opened {
    /// Chooses what the filter lets through.
    pub(crate) fn choose(&mut self) {
        let filter = self.filter.to_lowercase();
        let rows = self.table.iter().flat_map(|table| table.rows.iter());
        let rows = rows.enumerate().filter(|(_, row)| {
            let fd = row.fd.to_string();
            let texts = [&fd, &row.path, &row.kind, &row.origin].map(String::as_str);
            lets_through(&filter, &texts)
        });
        self.shown = rows.map(|(index, _)| index).collect();
    }
}
