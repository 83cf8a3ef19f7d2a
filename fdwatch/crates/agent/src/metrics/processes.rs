//! Selects the processes that have series of their own. The others are folded into one.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::snapshot::Snapshot;
use fdwatch_events::ProcessRow;

/// Upper limit of processes with series of their own.
pub const MAX_PROCESSES: usize = 1000;

/// The selected processes, and the sums of the others.
#[derive(Debug, Default)]
pub(super) struct Chosen<'a> {
    pub(super) rows: Vec<&'a ProcessRow>,
    pub(super) folded: Folded,
}

/// The sums of the other processes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) processes: usize,
    pub(super) descriptors: usize,
    pub(super) duplicate_files: usize,
    pub(super) duplicate_descriptors: usize,
}

/// Returns the used part of a descriptor limit, if there is one.
pub(super) fn limit_share(row: &ProcessRow) -> Option<f64> {
    let limit = row.limit.filter(|&limit| limit > 0)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio does not need full precision"
    )]
    Some(row.descriptors as f64 / limit as f64)
}

/// Selects up to `max` processes, by turns the one with the most descriptors, the most duplicates and the highest used
/// part of its limit.
pub(super) fn choose(view: &Snapshot, max: usize) -> Chosen<'_> {
    let rows = &view.processes;
    let max = max.min(MAX_PROCESSES);
    let rankings = [
        ranked(rows, max, |row| row.descriptors as u64),
        ranked(rows, max, |row| row.duplicate_descriptors as u64),
        ranked(rows, max, |row| {
            let parts_per_million = limit_share(row).unwrap_or(0.0) * 1e6;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it saturates"
            )]
            let share = parts_per_million as u64;
            share
        }),
    ];
    let mut chosen = BTreeSet::new();
    for rank in 0..max {
        let next = rankings.iter().filter_map(|ranking| ranking.get(rank));
        for row in next.filter_map(|&index| rows.get(index)) {
            if chosen.len() < max {
                chosen.insert(row.pid);
            }
        }
    }
    let mut result = Chosen::default();
    for row in rows {
        // Each once: Prometheus rejects a scrape with duplicate series.
        if chosen.remove(&row.pid) {
            result.rows.push(row);
        } else {
            result.folded.processes += 1;
            result.folded.descriptors += row.descriptors;
            result.folded.duplicate_files += row.duplicate_files;
            result.folded.duplicate_descriptors += row.duplicate_descriptors;
        }
    }
    result.folded.processes += view.more_processes;
    result.folded.descriptors += view.more_descriptors;
    result
}

/// Returns the indexes of the rows with the highest values above zero, highest first.
fn ranked(rows: &[ProcessRow], max: usize, of: impl Fn(&ProcessRow) -> u64) -> Vec<usize> {
    let keys = rows.iter().map(of).enumerate();
    let mut keys: Vec<_> = keys
        .filter(|&(_, amount)| amount > 0)
        .map(|(index, amount)| (Reverse(amount), index))
        .collect();
    if keys.len() > max && max > 0 {
        keys.select_nth_unstable(max - 1);
        keys.truncate(max);
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, descriptors: usize, duplicates: usize, limit: u64) -> ProcessRow {
        ProcessRow {
            pid,
            descriptors,
            duplicate_files: duplicates.min(1),
            duplicate_descriptors: duplicates,
            limit: Some(limit),
            ..ProcessRow::default()
        }
    }

    fn pids(chosen: &Chosen<'_>) -> Vec<u32> {
        chosen.rows.iter().map(|row| row.pid).collect()
    }

    #[test]
    fn rankings_take_turns() {
        let view = Snapshot {
            processes: vec![
                row(1, 9000, 0, 1_000_000),
                row(2, 8000, 0, 1_000_000),
                row(3, 7000, 0, 1_000_000),
                row(4, 20, 9, 1_000_000),
                row(5, 60, 0, 64),
            ],
            more_processes: 10,
            more_descriptors: 30,
            ..Snapshot::default()
        };
        let chosen = choose(&view, 3);
        assert_eq!(pids(&chosen), [1, 4, 5]);
        let folded = Folded {
            processes: 12,
            descriptors: 15_030,
            ..Folded::default()
        };
        assert_eq!(chosen.folded, folded);
    }

    #[test]
    fn none_and_all_can_be_selected() {
        let view = Snapshot {
            processes: vec![row(1, 10, 2, 0), row(2, 5, 0, 1024)],
            ..Snapshot::default()
        };
        let none = choose(&view, 0);
        assert_eq!(
            (pids(&none).len(), none.folded.duplicate_descriptors),
            (0, 2)
        );
        let all = choose(&view, usize::MAX);
        assert_eq!((pids(&all), all.folded), (vec![1, 2], Folded::default()));
    }

    #[test]
    fn duplicate_pid_is_selected_once() {
        let view = Snapshot {
            processes: vec![row(7, 10, 0, 1024), row(7, 9, 0, 1024)],
            ..Snapshot::default()
        };
        let chosen = choose(&view, 5);
        assert_eq!((pids(&chosen), chosen.folded.descriptors), (vec![7], 9));
    }
}
