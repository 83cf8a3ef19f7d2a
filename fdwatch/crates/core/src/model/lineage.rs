//! The forks and execs behind a table. Descriptors older than a step passed through it, so that
//! nothing has to be stored per descriptor. The steps outlive the processes that took them.

use std::sync::Arc;

use fdwatch_common::COMM_LEN;

use super::{moment::Moment, process::Process};

/// Steps stored per table, the latest ones.
const MAX: usize = 16;

/// An event that concerns a table as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineageEvent {
    /// The table was copied for a child.
    Fork,
    /// The process ran another program, keeping descriptors without close-on-exec.
    Exec,
}

/// A step in the lineage of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineageStep {
    /// What happened.
    pub event: LineageEvent,
    /// When it happened.
    pub at: Moment,
    /// The process that had the table before; for a fork, the parent.
    pub tgid: u32,
    /// When that process was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// The name of that process before the step.
    pub comm: [u8; COMM_LEN],
}

/// The steps of a table. Copies share them.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    last: Option<Arc<Link>>,
}

#[derive(Debug)]
struct Link {
    step: LineageStep,
    /// Number of links up to and including this one.
    len: usize,
    before: Option<Arc<Link>>,
}

impl Lineage {
    /// Iterates over the steps, latest first. At least the latest 16 are stored; earlier ones may
    /// be missing.
    pub fn steps(&self) -> impl Iterator<Item = &LineageStep> {
        let mut link = self.last.as_deref();
        std::iter::from_fn(move || {
            let Link { step, before, .. } = link?;
            link = before.as_deref();
            Some(step)
        })
    }

    /// Returns the steps that a descriptor opened at `opened` passed through, earliest first.
    #[must_use]
    pub fn since(&self, opened: Moment) -> Vec<LineageStep> {
        let passed = self.steps().take_while(|step| opened <= step.at);
        let mut steps: Vec<_> = passed.copied().collect();
        steps.reverse();
        steps
    }

    pub(super) fn add(&mut self, event: LineageEvent, at: Moment, before: &Process) {
        let step = LineageStep {
            event,
            at,
            tgid: before.tgid,
            start_time: before.start_time,
            comm: before.comm,
        };
        if self.last.as_ref().is_some_and(|last| last.len >= 2 * MAX) {
            // Trimmed once per `MAX` steps, so that a step copies one link on average.
            let last: Vec<_> = self.steps().take(MAX).copied().collect();
            self.last = None;
            for &step in last.iter().rev() {
                self.push(step);
            }
        }
        self.push(step);
    }

    fn push(&mut self, step: LineageStep) {
        let before = self.last.take();
        let len = 1 + before.as_ref().map_or(0, |before| before.len);
        self.last = Some(Arc::new(Link { step, len, before }));
    }
}

impl LineageStep {
    /// Returns the name of the process, without padding.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        super::process::name(&self.comm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_passes_through_later_steps() {
        let mut lineage = Lineage::default();
        lineage.add(LineageEvent::Fork, Moment(10), &Process::new(1, 1));
        let other = lineage.clone();
        lineage.add(LineageEvent::Exec, Moment(20), &Process::new(2, 1));
        let since = |opened| {
            let steps = lineage.since(Moment(opened));
            steps.iter().map(|step| step.tgid).collect::<Vec<_>>()
        };
        assert_eq!(since(5), [1, 2]);
        assert_eq!(since(10), [1, 2]);
        assert_eq!(since(15), [2]);
        assert!(since(21).is_empty());
        assert_eq!(other.steps().count(), 1);
    }

    #[test]
    fn long_lineage_keeps_latest_steps() {
        let mut lineage = Lineage::default();
        for at in 1..1000 {
            lineage.add(LineageEvent::Fork, Moment(at), &Process::new(at as u32, 1));
        }
        let kept: Vec<_> = lineage.steps().map(|step| step.tgid).collect();
        assert!(kept.len() >= MAX && kept.len() <= 2 * MAX);
        let last = (1..1000).rev().take(kept.len());
        assert!(last.eq(kept.iter().copied()));
    }
}
