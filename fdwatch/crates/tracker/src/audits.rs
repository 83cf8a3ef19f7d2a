//! Schedule of the audits, which compare the model with a snapshot.

use fdwatch_core::model::Moment;

/// Minimum interval between two audits, in nanoseconds.
const INTERVAL: u64 = 10_000_000_000;

/// Audits use at most 1/`SHARE` of one processor.
const SHARE: u64 = 1_000;

/// Delay of the audit that follows up on open differences or on lost records, in nanoseconds.
const FOLLOW_UP: u64 = 1_000_000_000;

/// Follow-ups use at most 1/`FOLLOW_UP_SHARE` of one processor.
const FOLLOW_UP_SHARE: u64 = 50;

/// Schedule and cost of the audits.
#[derive(Default)]
pub struct Audits {
    /// When the next audit is due; `None` if the kernel gives no snapshots.
    next: Option<Moment>,
    /// When the last audit ended.
    last: Moment,
    /// How long the last audit took, in nanoseconds.
    pub took: u64,
    /// How long all audits took, in nanoseconds.
    pub total_time: u64,
    /// Whether the next audit follows up on the last one.
    is_follow_up: bool,
}

impl Audits {
    /// Schedules the first audit.
    pub(crate) fn enable(&mut self, now: Moment) {
        self.next = Some(Moment(now.0 + INTERVAL));
    }

    /// Returns whether an audit is due. While descriptors race (`is_racing`), it is due sooner, for the
    /// same share of the processor.
    pub(crate) fn is_due(&mut self, now: Moment, is_racing: bool) -> bool {
        if is_racing {
            let wait = FOLLOW_UP.max(self.took.saturating_mul(SHARE));
            let soon = Moment(self.last.0 + wait);
            self.next = self.next.map(|due| due.min(soon));
        }
        self.next.is_some_and(|due| now >= due)
    }

    /// Schedules an audit at `time`, unless one is due before.
    pub(crate) fn schedule_by(&mut self, time: Moment) {
        if let Some(due) = &mut self.next {
            *due = (*due).min(time);
            self.is_follow_up = false;
        }
    }

    /// Schedules an audit after records were lost, as soon as the share of the processor permits.
    pub(crate) fn schedule_after_loss(&mut self, now: Moment) {
        let wait = self.took.saturating_mul(FOLLOW_UP_SHARE);
        self.schedule_by(Moment(now.0 + wait));
    }

    /// Schedules the audit after one that ran from `began` to `ended`. `is_open` is whether it left open
    /// differences; `None` if it failed.
    pub(crate) fn finish(&mut self, began: Moment, ended: Moment, is_open: Option<bool>) {
        let took = ended.since(began);
        self.total_time += took;
        let wait = match is_open {
            None => INTERVAL.max(took.saturating_mul(SHARE)),
            // One follow-up, not two: on a busy host something is always open.
            Some(true) if !self.is_follow_up => {
                self.is_follow_up = true;
                self.took = took;
                FOLLOW_UP.max(took.saturating_mul(FOLLOW_UP_SHARE))
            }
            Some(_) => {
                let first = if self.is_follow_up { self.took } else { 0 };
                self.is_follow_up = false;
                self.took = took;
                INTERVAL.max((took + first).saturating_mul(SHARE))
            }
        };
        self.last = ended;
        self.next = Some(Moment(ended.0 + wait));
    }
}
