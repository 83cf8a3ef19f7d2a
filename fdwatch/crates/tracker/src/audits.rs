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

/// Maximum delay between two audits, however long they take, in nanoseconds.
const MAX_INTERVAL: u64 = 600_000_000_000;

/// Maximum delay of a follow-up, in nanoseconds. Two of them and two audits take less than a minute, after
/// which the model is exact again.
const MAX_FOLLOW_UP: u64 = 10_000_000_000;

/// Schedule and cost of the audits.
#[derive(Default)]
pub struct Audits {
    /// When the next audit is due; `None` if the kernel gives no snapshots.
    next: Option<Moment>,
    /// When the last audit ended.
    last: Moment,
    /// CPU time of the last audit, in nanoseconds.
    pub took: u64,
    /// CPU time of all audits, in nanoseconds.
    pub total_time: u64,
    /// Whether the next audit follows up on the last one.
    is_follow_up: bool,
    /// Whether records were lost, and no audit has confirmed the model since.
    is_repairing: bool,
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
            let wait = (self.took.saturating_mul(SHARE)).clamp(FOLLOW_UP, MAX_INTERVAL);
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
        self.is_repairing = true;
        self.schedule_by(Moment(now.0 + Self::follow_up_wait(self.took)));
    }

    /// Returns whether an audit must run regardless of the CPU budget: the model may be wrong.
    pub(crate) const fn is_repairing(&self) -> bool {
        self.is_repairing
    }

    fn follow_up_wait(took: u64) -> u64 {
        took.saturating_mul(FOLLOW_UP_SHARE)
            .clamp(FOLLOW_UP, MAX_FOLLOW_UP)
    }

    fn wait(took: u64) -> u64 {
        took.saturating_mul(SHARE).clamp(INTERVAL, MAX_INTERVAL)
    }

    /// Schedules the audit after one that used `took` nanoseconds of CPU time and ended at `ended`. `is_open` is
    /// whether it left open differences; `None` if it failed.
    pub(crate) fn finish(&mut self, took: u64, ended: Moment, is_open: Option<bool>) {
        self.total_time += took;
        let wait = match is_open {
            None if self.is_repairing => Self::follow_up_wait(took),
            None => Self::wait(took),
            // One follow-up, not two: on a busy host something is always open.
            Some(true) if !self.is_follow_up => {
                self.is_follow_up = true;
                self.took = took;
                Self::follow_up_wait(took)
            }
            Some(_) => {
                let first = if self.is_follow_up { self.took } else { 0 };
                self.is_follow_up = false;
                self.is_repairing = false;
                self.took = took;
                Self::wait(took + first)
            }
        };
        self.last = ended;
        self.next = Some(Moment(ended.0 + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn model_is_repaired_within_a_minute_of_loss() {
        let mut audits = Audits::default();
        audits.enable(Moment(0));
        // A host with millions of descriptors.
        let took = 5 * SECOND;
        audits.finish(took, Moment(100 * SECOND), Some(false));
        let mut now = Moment(1000 * SECOND);
        audits.schedule_after_loss(now);
        let lost = now;
        for is_open in [true, true] {
            assert!(audits.is_repairing());
            while !audits.is_due(now, false) {
                now = Moment(now.0 + SECOND);
            }
            now = Moment(now.0 + 2 * took);
            audits.finish(took, now, Some(is_open));
        }
        assert!(!audits.is_repairing());
        assert!(now.since(lost) < 60 * SECOND, "{now:?}");
    }

    #[test]
    fn routine_audits_keep_their_share_up_to_a_limit() {
        let mut audits = Audits::default();
        audits.enable(Moment(0));
        assert!(!audits.is_due(Moment(INTERVAL - 1), false));
        audits.finish(20_000_000, Moment(INTERVAL), Some(false));
        assert!(!audits.is_due(Moment(INTERVAL + 19 * SECOND), false));
        assert!(audits.is_due(Moment(INTERVAL + 20 * SECOND), false));
        audits.finish(u64::MAX / 4, Moment(0), Some(false));
        assert!(audits.is_due(Moment(MAX_INTERVAL), false));
    }
}
