//! Status line of a running watch: descriptors, processes, event rate, findings. It is drawn in place on
//! standard error, if that is a terminal.

use std::io::{self, Write as _};

use terminal_size::{Width, terminal_size};

use fdwatch_core::{
    model::Moment,
    plural::{noun, thousands},
};
use fdwatch_events::time::{seconds, span};
use fdwatch_render::Format;
use fdwatch_tracker::Tracker;

/// Status line, redrawn in place.
pub(super) struct LiveLine {
    is_enabled: bool,
    is_shown: bool,
    /// When the line was first shown.
    began: Option<Moment>,
    /// When the line was last shown, and the number of events then.
    previous: (Moment, u64),
}

impl LiveLine {
    pub(super) fn new(format: Format) -> Self {
        Self {
            is_enabled: format == Format::Text && fdwatch_tracker::stderr_is_terminal(),
            is_shown: false,
            began: None,
            previous: (Moment(0), 0),
        }
    }

    /// Draws the line from current statistics.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a displayed rate needs no precision"
    )]
    pub(super) fn show(&mut self, live: &mut Tracker, now: Moment) {
        if !self.is_enabled {
            return;
        }
        live.update_stats();
        let stats = &live.stats;
        let events = stats.statistics.events();
        let began = *self.began.get_or_insert(now);
        let (at, events_then) = std::mem::replace(&mut self.previous, (now, events));
        let rate = if at == Moment(0) {
            String::new()
        } else {
            let rate = events.saturating_sub(events_then) as f64 / seconds(now.since(at)).max(0.1);
            format!(", {} events/s", thousands(rate as u64))
        };
        let found = match stats.found {
            0 => "no findings".to_owned(),
            found => format!(
                "{} {}, {} gone",
                thousands(found),
                noun(&found, "finding"),
                thousands(stats.gone)
            ),
        };
        let mut line = format!(
            "{} {} in {} {}{rate}: {found} in {}",
            thousands(stats.descriptors as u64),
            noun(&stats.descriptors, "descriptor"),
            thousands(stats.processes as u64),
            noun(&stats.processes, "process"),
            span(now.since(began)),
        );
        // A wrapped line could not be overwritten. All characters are ASCII: one byte, one column.
        let columns = terminal_size().map_or(80, |(Width(columns), _)| usize::from(columns));
        line.truncate(columns.saturating_sub(1));
        // Errors are ignored: the line is only informative.
        let _ = write!(io::stderr().lock(), "\r{line}\x1b[K\r");
        self.is_shown = true;
    }

    /// Erases the line, to make room for other output.
    pub(super) fn clear(&mut self) {
        if std::mem::replace(&mut self.is_shown, false) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
