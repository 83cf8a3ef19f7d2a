//! Tests of rules and thresholds.

use std::collections::BTreeMap;

use super::*;
use crate::config::read;
use fdwatch_core::{
    diagnose::{Cause, FileInfo},
    duplicates::Change,
    model::FileType,
};
use fdwatch_events::event::ThresholdReport;

fn config(text: &str) -> Config {
    match read(text.as_bytes()) {
        Ok(config) => config,
        Err(errors) => panic!("{errors:?}"),
    }
}

fn process(pid: u32, comm: &str) -> ProcessInfo {
    let mut process = ProcessInfo {
        pid,
        start_time: 7,
        comm: comm.into(),
        exe: Some(format!("/usr/bin/{comm}").into()),
        ..ProcessInfo::default()
    };
    process.workload.unit = Some(format!("{comm}.service"));
    process
}

fn finding(id: u64, of: ProcessInfo, path: &str, fds: u32) -> Finding {
    let descriptors = (0..fds).map(|fd| {
        let entry = fdwatch_core::model::FdEntry::default();
        let lineage = fdwatch_core::model::Lineage::default();
        let history = fdwatch_core::diagnose::FdHistory {
            provenance: fdwatch_core::model::Provenance::Made,
            lineage: &lineage,
            process: &of,
        };
        fdwatch_core::diagnose::Descriptor::new(fd, &entry, history)
    });
    let fds = descriptors.collect();
    let file = FileInfo::new(Some(path.into()), 1, 2, FileType::Regular);
    let (cause, severity) = (Cause::Reopened, Severity::Warning);
    Finding {
        fds,
        ..Finding::new(id, Change::Found, of, file, cause, severity)
    }
}

fn judged(text: &str, finding: &Finding) -> (Verdict, Severity) {
    let mut finding = finding.clone();
    let verdict = Rules::new(&config(text)).judge(&mut finding);
    (verdict, finding.severity)
}

#[test]
fn all_terms_and_one_pattern_each_must_match() {
    let found = finding(1, process(5, "server"), "/var/log/a/x.log", 2);
    for (terms, ignored) in [
        ("path = '/var/*'", true),
        ("path = ['/tmp/*', '/var/log/*.log']", true),
        ("path = '/var/log'", false),
        ("comm = 'server'", true),
        ("comm = 'server'\npath = '/tmp/*'", false),
        ("exe = '/usr/bin/*'\nunit = 'server.*'", true),
        ("unit = '*.scope'", false),
        ("cause = 'reopened'", true),
        ("cause = ['inherited', 'reopened']", true),
        ("cause = 'inherited'", false),
    ] {
        let expected = if ignored {
            Verdict::Ignored
        } else {
            Verdict::Reported
        };
        let text = format!("[[ignore]]\n{terms}\n");
        assert_eq!(judged(&text, &found).0, expected, "{terms}");
    }
}

#[test]
fn unknown_values_match_no_pattern() {
    let mut found = finding(1, process(5, "server"), "/x", 2);
    found.file.path = None;
    found.process.exe = None;
    assert_eq!(
        judged("[[ignore]]\npath = '*'", &found).0,
        Verdict::Reported
    );
    assert_eq!(judged("[[ignore]]\nexe = '*'", &found).0, Verdict::Reported);
    found.file.process_path = Some(b"/in/container".to_vec());
    let text = "[[ignore]]\npath = '/in/*'";
    assert_eq!(judged(text, &found).0, Verdict::Ignored);
}

#[test]
fn invalid_utf8_is_matched() {
    let mut found = finding(1, process(5, "server"), "/x", 2);
    found.file.path = Some(b"/tmp/\xff\n".to_vec());
    let text = "[[ignore]]\npath = '/tmp/*'";
    assert_eq!(judged(text, &found).0, Verdict::Ignored);
}

#[test]
fn first_matching_rule_sets_the_severity() {
    let found = finding(1, process(5, "server"), "/var/log/x.log", 2);
    let text = "
        [[severity]]
        comm = 'client'
        severity = 'info'
        [[severity]]
        path = '/var/log/*'
        severity = 'critical'
        [[severity]]
        comm = 'server'
        severity = 'info'
    ";
    assert_eq!(
        judged(text, &found),
        (Verdict::Reported, Severity::Critical)
    );
    let text = "[[severity]]\ncomm = 'server'\nseverity = 'info'";
    assert_eq!(
        judged(text, &found),
        (Verdict::BelowSeverity, Severity::Info)
    );
}

#[test]
fn findings_that_rules_may_raise_are_judged() {
    let least = |text: &str| Rules::new(&config(text)).least_judged();
    assert_eq!(least(""), Severity::Warning);
    let raise = "[[severity]]\ncomm = 'x'\nseverity = 'critical'";
    assert_eq!(least(raise), Severity::Info);
    let lower = "[[severity]]\ncomm = 'x'\nseverity = 'info'";
    assert_eq!(least(lower), Severity::Warning);
}

/// A lookup that counts its calls.
#[derive(Default)]
struct Host {
    names: BTreeMap<u32, &'static str>,
    limit: Option<u64>,
    growth: Option<u64>,
    pinned: u64,
    lookups: BTreeMap<&'static str, u32>,
}

impl Host {
    fn count(&mut self, what: &'static str) {
        *self.lookups.entry(what).or_default() += 1;
    }

    fn lookups(&self, what: &str) -> u32 {
        self.lookups.get(what).copied().unwrap_or(0)
    }
}

impl Lookup for Host {
    fn limit(&mut self, _: u32) -> Option<u64> {
        self.count("limit");
        self.limit
    }

    fn growth_per_hour(&mut self, _: u32) -> Option<u64> {
        self.count("growth");
        self.growth
    }

    fn pinned_bytes(&mut self, _: u32) -> u64 {
        self.count("pinned");
        self.pinned
    }

    fn process(&mut self, pid: u32) -> ProcessInfo {
        self.count("process");
        process(pid, self.names.get(&pid).copied().unwrap_or("server"))
    }
}

const fn numbers(pid: u32, descriptors: usize) -> ProcessCounts {
    ProcessCounts {
        pid,
        start_time: 7,
        descriptors,
        holds_deleted: false,
    }
}

fn shown(reports: &[ThresholdReport]) -> Vec<(Change, u32, f64, f64)> {
    let reports = reports.iter();
    reports
        .map(|it| (it.change, it.process.pid, it.value, it.threshold))
        .collect()
}

const MANY: &str = "[[threshold]]\nof = 'descriptors'\nabove = 1000\n";

#[test]
fn exceeded_threshold_is_reported_once_with_hysteresis() {
    let mut host = Host::default();
    let mut thresholds = Thresholds::new(&config(MANY));
    for (descriptors, expected) in [
        (1000, None),
        (1001, Some(Change::Found)),
        (5000, None),
        (1000, None),
        (900, None),
        (899, Some(Change::Gone)),
        (1000, None),
        (1001, Some(Change::Found)),
    ] {
        let reports = thresholds.update([numbers(5, descriptors)], &mut host);
        let expected: Vec<_> = expected
            .map(|change| (change, 5, descriptors as f64, 1000.0))
            .into_iter()
            .collect();
        assert_eq!(shown(&reports), expected, "{descriptors}");
    }
    assert_eq!(host.lookups("process"), 2);
}

#[test]
fn threshold_ends_with_the_process() {
    let mut host = Host::default();
    let mut thresholds = Thresholds::new(&config(MANY));
    thresholds.update([numbers(5, 2000), numbers(6, 2000)], &mut host);
    let other = ProcessCounts {
        start_time: 8,
        ..numbers(6, 3000)
    };
    let mut found = shown(&thresholds.update([other], &mut host));
    found.sort_by_key(|found| (found.1, found.2 as u64));
    assert_eq!(
        found,
        [
            (Change::Gone, 5, 0.0, 1000.0),
            (Change::Gone, 6, 0.0, 1000.0),
            (Change::Found, 6, 3000.0, 1000.0),
        ]
    );
    assert_eq!(thresholds.update([], &mut host).len(), 1);
    assert_eq!(thresholds.update([], &mut host), []);
}

#[test]
fn identity_is_looked_up_only_above_a_threshold() {
    let mut host = Host {
        names: [(2, "client")].into(),
        ..Host::default()
    };
    let text = format!("{MANY}comm = 'server'\n");
    let mut thresholds = Thresholds::new(&config(&text));
    let all = || (10..20_010).map(|pid| numbers(pid, 500));
    let processes = all().chain([numbers(1, 2000), numbers(2, 2000)]);
    let reports = thresholds.update(processes.clone(), &mut host);
    assert_eq!(shown(&reports), [(Change::Found, 1, 2000.0, 1000.0)]);
    assert_eq!(host.lookups("process"), 2);
    // The excluded one is looked up again only once per cycle.
    for _ in 0..12 {
        assert_eq!(thresholds.update(processes.clone(), &mut host), []);
    }
    assert_eq!(host.lookups("process"), 3);
    host.names.clear();
    let reports: Vec<_> = (0..12)
        .flat_map(|_| thresholds.update(processes.clone(), &mut host))
        .collect();
    assert_eq!(shown(&reports), [(Change::Found, 2, 2000.0, 1000.0)]);
}

#[test]
fn first_match_of_equal_thresholds_applies() {
    let text = "
        [[threshold]]
        of = 'descriptors'
        above = 1000
        comm = 'client'
        severity = 'info'
        [[threshold]]
        of = 'descriptors'
        above = 1000
        severity = 'critical'
        [[threshold]]
        of = 'descriptors'
        above = 100
    ";
    let mut host = Host::default();
    let mut thresholds = Thresholds::new(&config(text));
    let reports = thresholds.update([numbers(5, 2000)], &mut host);
    let found: Vec<_> = reports
        .iter()
        .map(|it| (it.threshold, it.severity))
        .collect();
    assert_eq!(
        found,
        [(1000.0, Severity::Critical), (100.0, Severity::Warning)]
    );
    let reports = thresholds.update([numbers(5, 500)], &mut host);
    assert_eq!(shown(&reports), [(Change::Gone, 5, 500.0, 1000.0)]);
}

#[test]
fn limits_are_looked_up_rarely() {
    let text = "[[threshold]]\nof = 'limit-share'\nabove = 80\n";
    let mut host = Host {
        limit: Some(1024),
        ..Host::default()
    };
    let mut thresholds = Thresholds::new(&config(text));
    let processes = [numbers(5, 800), numbers(6, 63)];
    for _ in 0..12 {
        assert_eq!(thresholds.update(processes, &mut host), []);
    }
    assert!(host.lookups("limit") <= 2, "{:?}", host.lookups);
    let reports = thresholds.update([numbers(5, 820)], &mut host);
    let found = shown(&reports);
    assert_eq!(found.len(), 1);
    assert!((found[0].2 - 80.07).abs() < 0.01, "{found:?}");
    // A raised limit is noticed within a minute.
    host.limit = Some(4096);
    let reports: Vec<_> = (0..12)
        .flat_map(|_| thresholds.update([numbers(5, 820)], &mut host))
        .collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].change, Change::Gone);
}

#[test]
fn lookups_per_round_are_limited() {
    let text = "[[threshold]]\nof = 'limit-share'\nabove = 80\n";
    let mut host = Host {
        limit: Some(1024),
        ..Host::default()
    };
    let mut thresholds = Thresholds::new(&config(text));
    let all = || (0..12_000).map(|pid| numbers(pid, 900));
    let found: Vec<_> = (0..12)
        .map(|_| thresholds.update(all(), &mut host).len())
        .collect();
    assert_eq!(found[0], 1256);
    // The rest follows within a minute, up to the limit of processes.
    assert_eq!(found.iter().sum::<usize>(), 4096);
    assert!(thresholds.no_room() > 0);
}

#[test]
fn expensive_values_are_looked_up_where_needed() {
    let text = "
        [[threshold]]
        of = 'growth-per-hour'
        above = 1000
        [[threshold]]
        of = 'pinned-bytes'
        above = '1G'
    ";
    let mut host = Host {
        growth: Some(2000),
        pinned: 2 << 30,
        ..Host::default()
    };
    let mut thresholds = Thresholds::new(&config(text));
    assert_eq!(thresholds.update([numbers(6, 10)], &mut host), []);
    assert!(host.lookups.is_empty(), "{:?}", host.lookups);
    let large = ProcessCounts {
        holds_deleted: true,
        ..numbers(5, 64)
    };
    let reports: Vec<_> = (0..12)
        .flat_map(|_| thresholds.update([large], &mut host))
        .collect();
    assert_eq!(
        shown(&reports),
        [
            (Change::Found, 5, 2000.0, 1000.0),
            (Change::Found, 5, (2u64 << 30) as f64, (1u64 << 30) as f64),
        ]
    );
    assert_eq!(host.lookups("pinned"), 1);
    // Unknown values change nothing.
    host.growth = None;
    assert_eq!(thresholds.update([large], &mut host), []);
    // The process closed most of its descriptors.
    let reports = thresholds.update([numbers(5, 10)], &mut host);
    assert_eq!(reports.len(), 2);
}

const FILES: &str = "[[threshold]]\nof = 'duplicates-per-file'\nabove = 2\npath = '/var/*'\n";

#[test]
fn process_exceeds_by_one_or_several_findings() {
    let mut host = Host::default();
    let mut thresholds = Thresholds::new(&config(FILES));
    let three = |id, path| finding(id, process(5, "server"), path, 3);
    assert_eq!(thresholds.finding(&three(1, "/tmp/x")), []);
    let reports = thresholds.finding(&three(2, "/var/x"));
    assert_eq!(shown(&reports), [(Change::Found, 5, 3.0, 2.0)]);
    assert_eq!(thresholds.finding(&three(2, "/var/x")), []);
    assert_eq!(thresholds.finding(&three(3, "/var/y")), []);
    assert_eq!(thresholds.update([numbers(5, 100)], &mut host), []);
    let mut gone = three(2, "/var/x");
    gone.change = Change::Gone;
    gone.fds.clear();
    assert_eq!(thresholds.finding(&gone), []);
    gone.id = 3;
    let reports = thresholds.finding(&gone);
    assert_eq!(shown(&reports), [(Change::Gone, 5, 0.0, 2.0)]);
    // The process may exit instead.
    thresholds.finding(&three(4, "/var/x"));
    let reports = thresholds.update([], &mut host);
    assert_eq!(shown(&reports), [(Change::Gone, 5, 0.0, 2.0)]);
    gone.id = 4;
    assert_eq!(thresholds.finding(&gone), []);
}

#[test]
fn reload_ends_removed_thresholds() {
    let mut host = Host::default();
    let text = format!("{MANY}{FILES}");
    let mut thresholds = Thresholds::new(&config(&text));
    thresholds.update([numbers(5, 2000)], &mut host);
    thresholds.finding(&finding(1, process(6, "server"), "/var/x", 3));
    assert_eq!(thresholds.reload(&config(&text)), []);
    // Another order, and one has other terms.
    let text = format!("{FILES}{MANY}comm = 'client'\n");
    let reports = thresholds.reload(&config(&text));
    assert_eq!(shown(&reports), [(Change::Gone, 5, 0.0, 1000.0)]);
    let both = [numbers(5, 2000), numbers(6, 10)];
    assert_eq!(thresholds.update(both, &mut host), []);
    let reports = thresholds.reload(&config(""));
    assert_eq!(shown(&reports), [(Change::Gone, 6, 0.0, 2.0)]);
    assert_eq!(thresholds.update(both, &mut host), []);
}

#[test]
fn reports_without_room_are_counted() {
    let mut host = Host::default();
    let mut thresholds = Thresholds::new(&config(MANY));
    let all = (1..=5000).map(|pid| numbers(pid, 2000));
    assert_eq!(thresholds.update(all, &mut host).len(), 4096);
    assert_eq!(thresholds.no_room(), 904);
}
