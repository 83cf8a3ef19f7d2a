//! The table of results.

use std::fmt::Write as _;

use super::{watch::Summary, workload::Work};

/// The result of a workload.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) work: Work,
    pub(super) summary: Summary,
}

/// Formats a table with one line per outcome.
pub(super) fn of(outcomes: &[Outcome]) -> String {
    let mut table = format!(
        "{:<12} {:>7} {:>22} {:>10} {:>6} {:>6} {:>7} {:>7} {:>10} {:>7} {:>7}\n",
        "workload",
        "seconds",
        "work",
        "events",
        "lost",
        "audits",
        "missing",
        "phantom",
        "wrong-file",
        "cloexec",
        "cpu"
    );
    for outcome in outcomes {
        let Outcome {
            name,
            seconds,
            work,
            summary,
        } = outcome;
        let Summary {
            events,
            lost,
            lost_kinds: _,
            audits,
            drift,
            cpu,
        } = summary;
        let work = format!("{} {}", work.count, work.unit);
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{name:<12} {seconds:>7.1} {work:>22} {events:>10} {lost:>6} {audits:>6} {:>7} {:>7} \
             {:>10} {:>7} {cpu:>7.2}",
            drift.missing, drift.phantom, drift.wrong_file, drift.close_on_exec
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{super::watch::Drift, *};

    #[test]
    fn table_has_a_line_per_workload() {
        let outcome = Outcome {
            name: "nginx",
            seconds: 20.04,
            work: Work {
                count: 1_234,
                unit: "requests",
            },
            summary: Summary {
                events: 5_678,
                lost: 9,
                lost_kinds: String::new(),
                audits: 3,
                drift: Drift {
                    phantom: 2,
                    ..Drift::default()
                },
                cpu: 0.567,
            },
        };
        let table = of(&[outcome]);
        let lines: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "nginx", "20.0", "1234", "requests", "5678", "9", "3", "0", "2", "0", "0", "0.57"
            ]
        );
        let ends: Vec<_> = table.lines().map(str::len).collect();
        assert_eq!(ends[0], ends[1]);
    }
}
