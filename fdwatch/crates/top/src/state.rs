//! State of the full screen. [`Top::update`] applies a message and may return an action; [`Top::view`]
//! draws the state. Neither does I/O or reads a clock.

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use crate::{
    data::{Descriptors, FindingChange, FindingEvent, Row, Status, clean},
    help::HELP,
    layout::{Content, Layout},
    list::{Column, Scroll, matches},
    theme::Theme,
    wrap::wrap,
};
use fdwatch_core::diagnose::Severity;

/// Maximum number of findings in the list. Older ones are only counted.
pub(crate) const MAX_FINDINGS: usize = 1000;

/// Maximum number of current findings that are tracked. Further ones are only counted.
pub(crate) const MAX_ACTIVE: usize = 20_000;

/// Maximum number of lines of an explanation.
pub(crate) const MAX_LINES: usize = 5000;

/// Maximum length of a filter, in characters.
pub(crate) const MAX_FILTER_LEN: usize = 100;

/// An update from the source.
#[derive(Clone, Debug)]
pub(crate) enum Update {
    /// The status of the source.
    Status(Box<Status>),
    /// The processes to list, and the number of others.
    Rows(Vec<Row>, u64),
    /// New findings, oldest first.
    Findings(Vec<FindingEvent>),
    /// Number of findings that were dropped.
    Missed(u64),
    /// The descriptors of the open process.
    Table(Box<Descriptors>),
    /// The explanation of a process (PID): lines.
    Explanation(u32, Vec<String>),
    /// PID of a process that could not be read, and the reason.
    Failed(u32, String),
    /// A log message.
    Note(String),
}

/// Input of the screen.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Key.
    Key(KeyEvent),
    /// Mouse event.
    Mouse(MouseEvent),
    /// Pasted text.
    Paste(String),
    /// New size of the terminal: columns, lines.
    Resize(u16, u16),
    /// Update from the source.
    Update(Update),
}

/// Action for the owner of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Quit.
    Quit,
    /// Restore the terminal and stop the process.
    Suspend,
    /// Clear and draw the screen.
    Redraw,
    /// Read the descriptors of this PID.
    Open(u32),
    /// Stop reading them.
    Close,
}

/// A pane of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pane {
    /// The processes, or a process's descriptors.
    #[default]
    Main,
    /// The findings, or a process's explanation.
    Second,
}

/// A popup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Popup {
    Help(Scroll),
    /// Index of the selected column.
    Sort(usize),
}

/// A current finding.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) severity: Severity,
    pub(crate) pid: Option<u32>,
    pub(crate) what: String,
}

/// Updates since the screen was frozen.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    pub(crate) status: Option<Box<Status>>,
    pub(crate) rows: Option<(Vec<Row>, u64)>,
    pub(crate) findings: VecDeque<FindingEvent>,
    pub(crate) missed: u64,
    pub(crate) table: Option<Box<Descriptors>>,
    pub(crate) explanation: Option<(u32, Vec<String>)>,
}

/// The open process.
#[derive(Debug, Default)]
pub(crate) struct ProcessView {
    /// Its latest row in the list.
    pub(crate) row: Row,
    pub(crate) is_gone: bool,
    pub(crate) table: Option<Box<Descriptors>>,
    /// Indices of the table's rows that match the filter.
    pub(crate) shown: Vec<usize>,
    pub(crate) filter: String,
    pub(crate) list: Scroll,
    pub(crate) explanation: Vec<String>,
    pub(crate) explanation_scroll: Scroll,
    pub(crate) failed: Option<String>,
    pub(crate) pane: Pane,
}

/// The full screen.
#[derive(Debug)]
pub(crate) struct Top {
    pub(crate) theme: Theme,
    pub(crate) size: (u16, u16),
    pub(crate) status: Option<Box<Status>>,
    /// Events per second between the last two statuses.
    pub(crate) rate: f64,
    /// CPU use between the last two statuses, in percent of one processor.
    pub(crate) cpu: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) more_rows: u64,
    /// Indices of the rows that match the filter, sorted.
    pub(crate) shown: Vec<usize>,
    pub(crate) list: Scroll,
    /// PID and start time of the process that keeps the selection.
    pub(crate) selected: Option<(u32, u64)>,
    pub(crate) sort: Column,
    pub(crate) is_reversed: bool,
    pub(crate) filter: String,
    pub(crate) is_typing: bool,
    /// Newest first.
    pub(crate) findings: VecDeque<FindingEvent>,
    /// Indices of the findings that match the filter.
    pub(crate) shown_findings: Vec<usize>,
    pub(crate) findings_scroll: Scroll,
    pub(crate) older_findings: u64,
    pub(crate) missed: u64,
    pub(crate) active: BTreeMap<String, Active>,
    /// Current findings that are not in `active` for lack of room.
    pub(crate) unknown_active: u64,
    pub(crate) pane: Pane,
    pub(crate) hides_findings: bool,
    pub(crate) frozen: Option<Frozen>,
    pub(crate) opened: Option<ProcessView>,
    pub(crate) popup: Option<Popup>,
    pub(crate) note: Option<String>,
    /// Pane and selections at the last click.
    pub(crate) clicked: Option<(Pane, usize, usize)>,
}

impl Top {
    /// Creates an empty screen of `size`: columns, lines.
    #[must_use]
    pub(crate) fn new(theme: Theme, size: (u16, u16)) -> Self {
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
            selected: None,
            sort: Column::Descriptors,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            findings: VecDeque::new(),
            shown_findings: Vec::new(),
            findings_scroll: Scroll::default(),
            older_findings: 0,
            missed: 0,
            active: BTreeMap::new(),
            unknown_active: 0,
            pane: Pane::Main,
            hides_findings: false,
            frozen: None,
            opened: None,
            popup: None,
            note: None,
            clicked: None,
        }
    }

    /// Applies an update, or stores it while the screen is frozen.
    pub(crate) fn apply(&mut self, update: Update) {
        match update {
            Update::Status(status) => match &mut self.frozen {
                Some(frozen) => frozen.status = Some(status),
                None => self.set_status(status),
            },
            Update::Rows(rows, more) => match &mut self.frozen {
                Some(frozen) => frozen.rows = Some((rows, more)),
                None => self.set_rows(rows, more),
            },
            Update::Findings(findings) => {
                for finding in findings {
                    match &mut self.frozen {
                        Some(frozen) => {
                            if frozen.findings.len() >= MAX_FINDINGS {
                                frozen.findings.pop_front();
                                frozen.missed += 1;
                            }
                            frozen.findings.push_back(finding);
                        }
                        None => self.add_finding(finding),
                    }
                }
                self.filter_findings();
            }
            Update::Missed(missed) => self.missed += missed,
            Update::Table(table) => match &mut self.frozen {
                Some(frozen) => frozen.table = Some(table),
                None => self.set_table(table),
            },
            Update::Explanation(pid, lines) => match &mut self.frozen {
                // The first explanation of a process is shown even if the screen is frozen.
                Some(frozen)
                    if self
                        .opened
                        .as_ref()
                        .is_some_and(|it| !it.explanation.is_empty()) =>
                {
                    frozen.explanation = Some((pid, lines));
                }
                _ => self.set_explanation(pid, lines),
            },
            Update::Failed(pid, reason) => {
                if let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == pid) {
                    opened.failed = Some(clean(reason.as_bytes()));
                }
            }
            Update::Note(note) => self.note = Some(clean(note.as_bytes())),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "only for display")]
    pub(crate) fn set_status(&mut self, status: Box<Status>) {
        if let Some(before) = &self.status {
            let seconds = status.at.saturating_sub(before.at) as f64 / 1e9;
            if seconds > 0.1 {
                self.rate = status.events.saturating_sub(before.events) as f64 / seconds;
                self.cpu = (status.cpu_seconds - before.cpu_seconds).max(0.0) / seconds * 100.0;
            }
        }
        self.status = Some(status);
    }

    pub(crate) fn set_rows(&mut self, rows: Vec<Row>, more: u64) {
        self.rows = rows;
        self.more_rows = more;
        if let Some(opened) = &mut self.opened {
            let (pid, start_time) = (opened.row.pid, opened.row.start_time);
            let mut same = self.rows.iter();
            let same = same
                .find(|row| row.pid == pid && (row.start_time == start_time || start_time == 0));
            match same {
                Some(row) => opened.row = row.clone(),
                // Unless the list is truncated, the process has exited.
                None => opened.is_gone = more == 0,
            }
        }
        self.sort_rows();
    }

    pub(crate) fn add_finding(&mut self, finding: FindingEvent) {
        if !finding.key.is_empty() {
            match (finding.change, finding.severity) {
                (FindingChange::Gone, _) => {
                    self.active.remove(&finding.key);
                }
                (FindingChange::Found | FindingChange::Changed, Some(severity)) => {
                    if self.active.len() < MAX_ACTIVE || self.active.contains_key(&finding.key) {
                        let active = Active {
                            severity,
                            pid: finding.pid,
                            what: finding.what.clone(),
                        };
                        self.active.insert(finding.key.clone(), active);
                    } else {
                        self.unknown_active += 1;
                    }
                }
                _ => {}
            }
        }
        if self.findings.len() >= MAX_FINDINGS {
            self.findings.pop_back();
            self.older_findings += 1;
        }
        let matches_filter = self.matches_filter(&finding);
        self.findings.push_front(finding);
        // Keeps the selection in place.
        if matches_filter && self.pane == Pane::Second {
            self.findings_scroll.selected += 1;
            self.findings_scroll.offset += 1;
        }
    }

    pub(crate) fn set_table(&mut self, table: Box<Descriptors>) {
        let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == table.pid) else {
            return;
        };
        opened.failed = None;
        if opened.row.comm.is_empty() {
            opened.row.comm.clone_from(&table.comm);
        }
        opened.table = Some(table);
        opened.apply_filter();
    }

    pub(crate) fn set_explanation(&mut self, pid: u32, mut lines: Vec<String>) {
        if let Some(opened) = self.opened.as_mut().filter(|it| it.row.pid == pid) {
            lines.truncate(MAX_LINES);
            opened.explanation = lines;
        }
    }

    /// Freezes the screen, or resumes it with the updates since.
    pub(crate) fn toggle_freeze(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            self.frozen = Some(Frozen::default());
            return;
        };
        if let Some(status) = frozen.status {
            self.set_status(status);
        }
        if let Some((rows, more)) = frozen.rows {
            self.set_rows(rows, more);
        }
        self.missed += frozen.missed;
        for finding in frozen.findings {
            self.add_finding(finding);
        }
        self.filter_findings();
        if let Some(table) = frozen.table {
            self.set_table(table);
        }
        if let Some((pid, lines)) = frozen.explanation {
            self.set_explanation(pid, lines);
        }
    }

    /// Opens a process.
    pub(crate) fn open(&mut self, pid: u32) -> Action {
        let row = self.rows.iter().find(|row| row.pid == pid);
        let row = row.cloned().unwrap_or_else(|| Row {
            pid,
            ..Row::default()
        });
        self.opened = Some(ProcessView {
            row,
            ..ProcessView::default()
        });
        if let Some(frozen) = &mut self.frozen {
            frozen.table = None;
            frozen.explanation = None;
        }
        Action::Open(pid)
    }

    /// Closes the open process.
    pub(crate) fn close(&mut self) -> Action {
        self.opened = None;
        self.is_typing = false;
        Action::Close
    }

    /// Filters and sorts the processes, and restores the selection.
    pub(crate) fn sort_rows(&mut self) {
        let filter = self.filter.to_lowercase();
        let mut paths: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        if !filter.is_empty() {
            for active in self.active.values() {
                if let Some(pid) = active.pid {
                    paths.entry(pid).or_default().push(&active.what);
                }
            }
        }
        let is_shown = |row: &Row| {
            let pid = row.pid.to_string();
            let texts = [&pid, &row.comm, &row.unit, &row.user].map(String::as_str);
            matches(&filter, &texts)
                || paths
                    .get(&row.pid)
                    .is_some_and(|paths| matches(&filter, paths))
        };
        let rows = self.rows.iter().enumerate();
        self.shown = rows
            .filter(|(_, row)| is_shown(row))
            .map(|(index, _)| index)
            .collect();
        let (rows, sort) = (&self.rows, self.sort);
        let is_descending = sort.is_descending() != self.is_reversed;
        self.shown.sort_by(|&one, &other| {
            let (one, other) = (&rows[one], &rows[other]);
            let order = sort.compare(one, other);
            let order = if is_descending {
                order.reverse()
            } else {
                order
            };
            order.then(one.pid.cmp(&other.pid))
        });
        let selected = self.selected.and_then(|process| {
            let mut shown = self.shown.iter();
            shown.position(|&index| (rows[index].pid, rows[index].start_time) == process)
        });
        match (selected, self.selected) {
            (Some(at), _) => self.list.selected = at,
            (None, Some(_)) => self.selected = None,
            // The first process is selected until the user selects another.
            (None, None) => {}
        }
    }

    /// Returns whether a finding matches the filter.
    pub(crate) fn matches_filter(&self, finding: &FindingEvent) -> bool {
        let pid = finding.pid.map_or_else(String::new, |pid| pid.to_string());
        let texts = [pid.as_str(), &finding.comm, &finding.what, &finding.why];
        matches(&self.filter.to_lowercase(), &texts)
    }

    /// Filters the findings.
    pub(crate) fn filter_findings(&mut self) {
        let findings = self.findings.iter().enumerate();
        self.shown_findings = findings
            .filter(|(_, finding)| self.matches_filter(finding))
            .map(|(index, _)| index)
            .collect();
    }

    /// Applies the filter of the current view.
    pub(crate) fn refilter(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.apply_filter();
        } else {
            self.sort_rows();
            self.filter_findings();
        }
    }

    /// Sorts by a column, or reverses the order if it is the current one.
    pub(crate) fn sort_by(&mut self, column: Column) {
        if self.sort == column {
            self.is_reversed = !self.is_reversed;
        } else {
            self.sort = column;
            self.is_reversed = false;
        }
        self.sort_rows();
    }

    /// Returns the layout of the screen.
    pub(crate) fn layout(&self) -> Layout {
        let (has_second, pane) = match &self.opened {
            Some(opened) => (true, opened.pane),
            None => (!self.hides_findings, self.pane),
        };
        let content = Content {
            is_process: self.opened.is_some(),
            has_second,
            is_second_active: pane == Pane::Second,
        };
        Layout::of(self.size, content)
    }

    /// Limits all selections and scroll positions to what is shown.
    pub(crate) fn clamp(&mut self) {
        let layout = self.layout();
        let (main, second) = (layout.main.height.into(), layout.second.height.into());
        if let Some(opened) = &mut self.opened {
            opened.list.clamp(opened.shown.len(), main);
            let lines = wrap(&opened.explanation, self.size.0).len();
            opened.explanation_scroll.clamp_text(lines, second);
        } else {
            self.list.clamp(self.shown.len(), main);
            self.findings_scroll
                .clamp(self.shown_findings.len(), second);
        }
        if let Some(Popup::Help(scroll)) = &mut self.popup {
            let height = usize::from(self.size.1).saturating_sub(4);
            scroll.clamp_text(HELP.len(), height);
        }
    }

    /// Counts the current findings: info, warning, critical.
    pub(crate) fn by_severity(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for active in self.active.values() {
            counts[active.severity as usize] += 1;
        }
        counts
    }
}

impl ProcessView {
    /// Filters the descriptors.
    pub(crate) fn apply_filter(&mut self) {
        let filter = self.filter.to_lowercase();
        let rows = self.table.iter().flat_map(|table| table.rows.iter());
        let rows = rows.enumerate().filter(|(_, row)| {
            let fd = row.fd.to_string();
            let texts = [&fd, &row.path, &row.kind, &row.origin].map(String::as_str);
            matches(&filter, &texts)
        });
        self.shown = rows.map(|(index, _)| index).collect();
    }
}
