//! Tests of the exported text: names, values, untrusted labels and limits.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    config,
    sink::{Sink, SinkStats},
    snapshot::Snapshot,
};
use fdwatch_core::{
    budget::ShedLevel,
    diagnose::{ProcessInfo, Severity},
    duplicates::Change,
    model::Moment,
};
use fdwatch_events::{
    ProcessRow,
    event::{Event, EventKind, Key, Measure, ThresholdReport},
};

/// A parsed sample: name, labels and value.
type Read = (String, BTreeMap<String, String>, f64);

/// Parses OpenMetrics text by its grammar, independently of the encoder.
fn read(text: &str) -> Vec<Read> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(read_line).collect()
}

fn read_line(line: &str) -> Read {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = read_value(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after;
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = rest.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    (name.to_owned(), labels, value)
}

fn read_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match characters.next().unwrap().1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    panic!("unterminated value: {text}");
}

fn value(samples: &[Read], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &&Read| {
        sample.0 == name
            && labels
                .iter()
                .all(|(label, value)| sample.1.get(*label).is_some_and(|it| it == value))
    };
    let mut found = samples.iter().filter(matches);
    let (_, _, value) = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {labels:?}"));
    assert!(found.next().is_none(), "more than one {name} {labels:?}");
    *value
}

fn of(view: Snapshot) -> Arc<AgentState> {
    let (shared, _incoming) = AgentState::new();
    shared.set_view(view);
    shared
}

fn encoded(shared: &AgentState, most_processes: usize) -> String {
    encode(shared, &config::Metrics { most_processes })
}

fn threshold(key: u128, change: Change) -> Event {
    let report = ThresholdReport {
        change,
        process: ProcessInfo::default(),
        of: Measure::Descriptors,
        value: 10.0,
        threshold: 5.0,
        severity: Severity::Critical,
    };
    Event {
        number: 1,
        at: Moment(1),
        wall_time: 1,
        kind: EventKind::Threshold(Box::new(report)),
        json: String::new(),
        key: Some(Key(key)),
    }
}

/// Dashboards and alerting rules depend on these, so a change breaks them.
#[test]
fn names_types_and_help_are_stable() {
    let text = encoded(&of(Snapshot::default()), 20);
    let about = |line: &&str| line.starts_with("# ") && *line != "# EOF";
    let about: Vec<_> = text.lines().filter(about).collect();
    let expected: Vec<_> = include_str!("names.txt").lines().collect();
    assert_eq!(about, expected, "\n{}", about.join("\n"));
}

#[test]
fn names_follow_prometheus_conventions() {
    let shared = of(Snapshot::default());
    let text = encoded(&shared, 20);
    let families = families(&shared, &config::Metrics::default());
    let names: BTreeMap<_, _> = families
        .iter()
        .map(|family| (family.full_name(), family))
        .collect();
    assert_eq!(names.len(), families.len(), "duplicate name");
    for (name, ..) in read(&text) {
        assert!(names.contains_key(&name), "{name}");
    }
    for (name, family) in names {
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
        let in_name = |character: char| character.is_ascii_lowercase() || character == '_';
        assert!(name.chars().all(in_name), "{name}");
    }
}

#[test]
fn all_known_values_are_exported() {
    let mut view = Snapshot {
        at: Moment(5),
        wall_time: 1_700_000_000_500_000_000,
        ring_fill: 0.25,
        audit_time: 1_500_000_000,
        tables: 7,
        rss: 4096,
        budget_percent: 1.0,
        used_percent: 0.5,
        ignored: 3,
        processes: vec![ProcessRow {
            pid: 42,
            comm: b"nginx".to_vec(),
            unit: Some("nginx.service".to_owned()),
            descriptors: 512,
            limit: Some(1024),
            duplicate_files: 1,
            duplicate_descriptors: 2,
            ..ProcessRow::default()
        }],
        more_processes: 9,
        more_descriptors: 100,
        ..Snapshot::default()
    };
    view.stats.found = 6;
    view.stats.duration = 500_000_000;
    view.stats.shedding = ShedLevel::Audits;
    view.stats.statistics.drift.phantom = 2;
    view.stats.statistics.records[fdwatch_common::Kind::Fork as usize] = 11;
    let shared = of(view);
    shared.publish(threshold(1, Change::Found));
    shared.publish(threshold(2, Change::Found));
    shared.publish(threshold(2, Change::Gone));
    let (sink, _receiver) = Sink::new("history", 1, Arc::default());
    SinkStats::add(&sink.counts.taken, 4);
    SinkStats::add(&sink.counts.dropped, 1);
    shared.set_sinks(vec![sink]);
    AgentState::count(&shared.api.refused);

    let samples = read(&encoded(&shared, 20));
    let nginx = [("pid", "42"), ("comm", "nginx"), ("unit", "nginx.service")];
    for (name, labels, expected) in [
        (
            "fdwatch_findings",
            &[("severity", "critical"), ("cause", "threshold")][..],
            1.0,
        ),
        (
            "fdwatch_findings",
            &[("severity", "warning"), ("cause", "reopened")],
            0.0,
        ),
        ("fdwatch_findings_told_total", &[("change", "found")], 6.0),
        ("fdwatch_findings_ignored_total", &[], 3.0),
        ("fdwatch_process_descriptors", &nginx, 512.0),
        ("fdwatch_process_descriptors_limit", &nginx, 1024.0),
        ("fdwatch_process_descriptors_limit_used_ratio", &nginx, 0.5),
        ("fdwatch_process_duplicate_descriptors", &nginx, 2.0),
        (
            "fdwatch_process_descriptors",
            &[("comm", "(others)")],
            100.0,
        ),
        ("fdwatch_processes_folded", &[], 9.0),
        ("fdwatch_label_values_changed", &[], 0.0),
        ("fdwatch_events_total", &[("kind", "fork")], 11.0),
        ("fdwatch_events_lost_total", &[("kind", "birth")], 0.0),
        ("fdwatch_ring_fill_ratio", &[], 0.25),
        ("fdwatch_audit_seconds_total", &[], 1.5),
        ("fdwatch_drift_repaired_total", &[("kind", "phantom")], 2.0),
        ("fdwatch_budget_sheds", &[("what", "audits")], 1.0),
        ("fdwatch_budget_sheds", &[("what", "nothing")], 0.0),
        ("fdwatch_budget_limit_ratio", &[], 0.01),
        ("fdwatch_budget_used_ratio", &[], 0.005),
        ("fdwatch_outlet_taken_total", &[("outlet", "history")], 4.0),
        (
            "fdwatch_outlet_dropped_total",
            &[("outlet", "history")],
            1.0,
        ),
        ("fdwatch_api_refused_total", &[], 1.0),
        ("fdwatch_start_time_seconds", &[], 1_700_000_000.0),
        (
            "fdwatch_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        ),
    ] {
        let shown = value(&samples, name, labels);
        assert!(
            (shown - expected).abs() < 1e-9,
            "{name} {labels:?}: {shown}"
        );
    }
}

/// Names that try to break out of their quotes, line and series.
const HOSTILE: [&[u8]; 8] = [
    b"a\"} 1\nfdwatch_events_total{kind=\"birth\"} 99 #",
    b"\\",
    b"\\\"",
    b"x\ny\r\0\x1b[2J",
    b"\xff\xfe\xc3",
    b"(others)",
    b"# EOF",
    "\u{202e}gnp.exe".as_bytes(),
];

#[test]
fn hostile_names_do_not_leave_their_labels() {
    let rows = (1_u32..).zip(HOSTILE).map(|(pid, name)| ProcessRow {
        pid,
        comm: name.to_vec(),
        unit: Some(String::from_utf8_lossy(name).into_owned()),
        descriptors: 10,
        ..ProcessRow::default()
    });
    let shared = of(Snapshot {
        processes: rows.collect(),
        ..Snapshot::default()
    });
    let text = encoded(&shared, 20);
    let printable = |character: char| character == '\n' || !character.is_control();
    assert!(text.chars().all(printable));
    let samples = read(&text);
    assert!(value(&samples, "fdwatch_events_total", &[("kind", "birth")]).abs() < 0.5);
    let shown: Vec<_> = samples
        .iter()
        .filter(|(name, ..)| name == "fdwatch_process_descriptors")
        .map(|(_, labels, _)| labels["comm"].as_str())
        .collect();
    let expected = [
        "a\"} 1\\nfdwatch_events_total{kind=\"birth\"} 99 #",
        "\\\\",
        "\\\\\"",
        "x\\ny\\r\\x00\\x1b[2J",
        "\\xff\\xfe\\xc3",
        "(others)",
        "# EOF",
        "\\u{202e}gnp.exe",
        "(others)",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn hundred_thousand_processes_stay_within_series_limit() {
    let rows = (1..=100_000_u32).map(|pid| ProcessRow {
        pid,
        comm: [
            HOSTILE[pid as usize % HOSTILE.len()],
            &pid.to_le_bytes(),
            &[b'z'; 4096],
        ]
        .concat(),
        unit: Some("\u{fffd}\"\n".repeat(2000)),
        descriptors: pid as usize,
        limit: Some(u64::from(pid) + 1),
        duplicate_files: 1,
        duplicate_descriptors: 1,
        ..ProcessRow::default()
    });
    let shared = of(Snapshot {
        processes: rows.collect(),
        ..Snapshot::default()
    });
    let none = read(&encoded(&shared, 0)).len();
    for max in [1, 20, 1_000_000] {
        let text = encoded(&shared, max);
        let samples = read(&text);
        let shown = max.min(MAX_PROCESSES);
        assert_eq!(samples.len(), none + 5 * shown);
        // The documentation promises this.
        assert!(none + 5 * 20 < 300);
        // A label value has up to 64 bytes, or twice that if all of it is escaped.
        assert!(text.len() < 20_000 + 5 * shown * 400, "{}", text.len());
        let longest = samples.iter().flat_map(|(_, labels, _)| labels.values());
        assert!(longest.map(String::len).max().unwrap() <= 64);
        let folded = value(&samples, "fdwatch_processes_folded", &[]);
        assert!((folded - (100_000 - shown) as f64).abs() < 0.5);
        let changed = value(&samples, "fdwatch_label_values_changed", &[]);
        assert!((changed - 2.0 * shown as f64).abs() < 0.5);
        let name = "fdwatch_process_descriptors";
        let all = samples.iter().filter(|sample| sample.0 == name);
        let sum: f64 = all.map(|(_, _, value)| value).sum();
        assert!(
            (sum - 5_000_050_000.0).abs() < 0.5,
            "descriptors are missing: {sum}"
        );
    }
}

#[test]
fn format_follows_accept_header() {
    // The header that Prometheus 2.42 and 3 send.
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
    assert_eq!(Format::accepted(Some("*/*")), Format::Text);
    assert_eq!(Format::accepted(None), Format::Text);
    let shared = of(Snapshot::default());
    let text = encode_as(Format::Text, &shared, &config::Metrics::default());
    assert!(
        text.contains("# TYPE fdwatch_events_total counter\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"), "{text}");
}
