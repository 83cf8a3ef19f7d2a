//! A line that shows that fdwatch lives where nothing is found: what it does to begin, what it watches,
//! and what it has found so far. On standard error, in place, if that is a terminal, and nowhere else.

use std::io::{self, Write as _};

use terminal_size::{Width, terminal_size};

use fdwatch_core::{
    model::Moment,
    plural::{noun, thousands},
};
use fdwatch_events::time::{seconds, span};
use fdwatch_render::Format;
use fdwatch_tracker::Live;

/// See the module.
pub(super) struct Alive {
    is_wanted: bool,
    is_shown: bool,
    /// When it began.
    began: Option<Moment>,
    /// When it was shown last, and how many events there were.
    before: (Moment, u64),
}

impl Alive {
    pub(super) fn new(format: Format) -> Self {
        Self {
            is_wanted: format == Format::Text && fdwatch_tracker::stderr_is_terminal(),
            is_shown: false,
            began: None,
            before: (Moment(0), 0),
        }
    }

    /// Shows how things are now.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate, for people"
    )]
    pub(super) fn show(&mut self, live: &mut Live, now: Moment) {
        if !self.is_wanted {
            return;
        }
        live.count();
        let stats = &live.stats;
        let events = stats.statistics.events();
        let began = *self.began.get_or_insert(now);
        let (at, were) = std::mem::replace(&mut self.before, (now, events));
        let line = if at == Moment(0) {
            String::new()
        } else {
            let rate = events.saturating_sub(were) as f64 / seconds(now.since(at)).max(0.1);
            format!(", {} events/s", thousands(rate as u64))
        };
        let found = match stats.found {
            0 => "nothing found".to_owned(),
            found => format!("{} found, {} gone", thousands(found), thousands(stats.gone)),
        };
        let mut line = format!(
            "{} {} of {} {}{line}: {found} in {}",
            thousands(stats.descriptors as u64),
            noun(&stats.descriptors, "descriptor"),
            thousands(stats.processes as u64),
            noun(&stats.processes, "process"),
            span(now.since(began)),
        );
        // A line that is broken could not be written over; it is of ASCII alone.
        let columns = terminal_size().map_or(80, |(Width(columns), _)| usize::from(columns));
        line.truncate(columns.saturating_sub(1));
        // Where it cannot be shown no one looks.
        let _ = write!(io::stderr().lock(), "\r{line}\x1b[K\r");
        self.is_shown = true;
    }

    /// Takes it away, for other things to stand there.
    pub(super) fn clear(&mut self) {
        if std::mem::replace(&mut self.is_shown, false) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
