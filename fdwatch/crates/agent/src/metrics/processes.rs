//! Which processes are told of one by one: so many and no more, whatever there is on a host. The others
//! are told of together.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::snapshot::Snapshot;
use fdwatch_events::ProcessRow;

/// Processes that are told of one by one at the most, whatever the configuration says.
pub const MAX_PROCESSES: usize = 1000;

/// Who is told of, and what there is of the others.
#[derive(Debug, Default)]
pub(super) struct Chosen<'a> {
    pub(super) rows: Vec<&'a ProcessRow>,
    pub(super) folded: Folded,
}

/// The others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) processes: usize,
    pub(super) descriptors: usize,
    pub(super) duplicate_files: usize,
    pub(super) duplicate_descriptors: usize,
}

/// Share of its limit that a process has used, if it has one.
pub(super) fn limit_share(row: &ProcessRow) -> Option<f64> {
    let limit = row.limit.filter(|&limit| limit > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "it is a share")]
    Some(row.descriptors as f64 / limit as f64)
}

/// Those with the most descriptors, the most duplicates and the least room below their limit, in turns,
/// until there are `most`.
pub(super) fn choose(view: &Snapshot, most: usize) -> Chosen<'_> {
    let rows = &view.processes;
    let most = most.min(MAX_PROCESSES);
    let rankings = [
        ranked(rows, most, |row| row.descriptors as u64),
        ranked(rows, most, |row| row.duplicate_descriptors as u64),
        ranked(rows, most, |row| {
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
    for rank in 0..most {
        let next = rankings.iter().filter_map(|ranking| ranking.get(rank));
        for row in next.filter_map(|&index| rows.get(index)) {
            if chosen.len() < most {
                chosen.insert(row.pid);
            }
        }
    }
    let mut result = Chosen::default();
    for row in rows {
        // Each once: a series that is there twice makes Prometheus refuse all of it.
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

/// Where the rows with most of something are, if there is any of it, the most first.
fn ranked(rows: &[ProcessRow], most: usize, of: impl Fn(&ProcessRow) -> u64) -> Vec<usize> {
    let keys = rows.iter().map(of).enumerate();
    let mut keys: Vec<_> = keys
        .filter(|&(_, amount)| amount > 0)
        .map(|(index, amount)| (Reverse(amount), index))
        .collect();
    if keys.len() > most && most > 0 {
        keys.select_nth_unstable(most - 1);
        keys.truncate(most);
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
    fn each_ranking_has_its_turn() {
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
    fn none_and_all_can_be_asked_for() {
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
    fn a_number_that_is_there_twice_is_told_of_once() {
        let view = Snapshot {
            processes: vec![row(7, 10, 0, 1024), row(7, 9, 0, 1024)],
            ..Snapshot::default()
        };
        let chosen = choose(&view, 5);
        assert_eq!((pids(&chosen), chosen.folded.descriptors), (vec![7], 9));
    }
}
