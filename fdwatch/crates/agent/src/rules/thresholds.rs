//! Processes that exceed a threshold.
//!
//! All processes are compared every few seconds, by counts that are at hand. Expensive values are looked up only for
//! processes with many descriptors or with deleted files, and not in each round; the identity only for processes that
//! exceed a threshold. The state is bounded; reports without room are counted.

use rustc_hash::FxHashMap;

use crate::config::{Config, Rule};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    duplicates::Change,
    growth::LARGE,
};
use fdwatch_events::event::{Measure, ThresholdReport};

/// A process must fall below this part of a threshold to be within it again.
const HYSTERESIS: f64 = 0.9;

/// Rounds after which expensive values are looked up again; each round covers another part of the processes.
const LOOKUP_ROUNDS: u64 = 12;

/// Limit of processes that exceed a threshold.
const MAX_PROCESSES: usize = 4096;

/// Limit of findings that exceed a threshold.
const MAX_FINDINGS: usize = 65_536;

/// Limit of processes whose descriptor limits are cached. Those of others are looked up once per `LOOKUP_ROUNDS`.
const MAX_LIMITS: usize = 16_384;

/// Limit of additional lookups of descriptor limits per round, for processes that newly have many descriptors.
const MAX_EXTRA_LOOKUPS: usize = 256;

/// Limit of groups: the bits of `Known::excluded`.
const MAX_GROUPS: usize = 64;

/// The cheap counts of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Its PID.
    pub pid: u32,
    /// When it started: nanoseconds since boot.
    pub start_time: u64,
    /// Number of its descriptors.
    pub descriptors: usize,
    /// Whether it may hold deleted files open.
    pub holds_deleted: bool,
}

/// Lookups of expensive values.
pub trait Lookup {
    /// Returns the soft `RLIMIT_NOFILE`, if it can be read and is limited.
    fn limit(&mut self, pid: u32) -> Option<u64>;
    /// Returns the growth in descriptors per hour, if it is known.
    fn growth_per_hour(&mut self, pid: u32) -> Option<u64>;
    /// Returns the size of deleted files that it holds open: bytes.
    fn pinned_bytes(&mut self, pid: u32) -> u64;
    /// Returns its identity.
    fn process(&mut self, pid: u32) -> ProcessInfo;
}

/// PID and start time of a process.
type Id = (u32, u64);

/// Thresholds with the same measure and value, of which the first that matches a process applies.
#[derive(Clone, Debug)]
struct Group {
    of: Measure,
    above: f64,
    rules: Vec<(Rule, Severity)>,
}

impl Group {
    fn has_same_threshold(&self, other: &Self) -> bool {
        self.of == other.of && self.above.total_cmp(&other.above).is_eq()
    }

    /// Returns whether `value` exceeds the threshold, with hysteresis if it did before.
    fn is_exceeded(&self, value: f64, was: bool) -> bool {
        if was {
            value >= self.above * HYSTERESIS
        } else {
            value > self.above
        }
    }
}

/// A process that exceeds a threshold.
#[derive(Debug, Default)]
struct Known {
    /// Its identity, if anything was reported.
    process: Option<Box<ProcessInfo>>,
    exceeded: Vec<Exceeded>,
    /// Groups that it exceeds but whose rules do not match: a bit for each.
    excluded: u64,
    /// The round in which it was last seen.
    seen: u64,
}

/// A threshold that a process exceeds.
#[derive(Clone, Copy, Debug)]
struct Exceeded {
    group: usize,
    severity: Severity,
    /// Number of findings that exceed it, with `duplicates-per-file`.
    findings: u32,
}

/// A finding that exceeds thresholds: a bit for each group.
#[derive(Clone, Copy, Debug)]
struct ExceedingFinding {
    process: Id,
    groups: u64,
}

/// The thresholds, and the processes that exceed them.
#[derive(Debug, Default)]
pub struct Thresholds {
    groups: Vec<Group>,
    known: FxHashMap<Id, Known>,
    findings: FxHashMap<u64, ExceedingFinding>,
    /// The descriptor limit of each process, and the round in which it was last seen.
    limits: FxHashMap<Id, (Option<u64>, u64)>,
    round: u64,
    /// Additional lookups of descriptor limits in this round.
    extra_lookups: usize,
    no_room: u64,
}

impl Thresholds {
    /// Creates the thresholds of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            groups: groups(config),
            ..Self::default()
        }
    }

    /// Returns how often an exceeded threshold was not reported for lack of room.
    #[must_use]
    pub const fn no_room(&self) -> u64 {
        self.no_room
    }

    /// Replaces the thresholds. Returns reports of those that ended because the threshold was removed or does not match
    /// any more. The caller must pass active findings to [`Self::finding`] again.
    pub fn reload(&mut self, config: &Config) -> Vec<ThresholdReport> {
        let new = groups(config);
        let mut reports = Vec::new();
        let before = std::mem::replace(&mut self.groups, new);
        let place = |group: usize| {
            let old = before.get(group)?;
            self.groups
                .iter()
                .position(|new| new.has_same_threshold(old))
        };
        self.known.retain(|_, known| {
            known.excluded = 0;
            let Some(process) = &known.process else {
                return false;
            };
            known.exceeded.retain_mut(|exceeded| {
                let severity = place(exceeded.group).and_then(|at| {
                    let rules = &self.groups[at].rules;
                    let by_rule = rules.iter().find(|(rule, _)| rule.matches_process(process));
                    Some((at, by_rule?.1))
                });
                if let Some((at, severity)) = severity {
                    exceeded.group = at;
                    exceeded.severity = severity;
                    return true;
                }
                if let Some(old) = before.get(exceeded.group) {
                    reports.push(report(old, Change::Gone, process, 0.0, exceeded.severity));
                }
                false
            });
            !known.exceeded.is_empty()
        });
        for exceeding in self.findings.values_mut() {
            let bits = (0..MAX_GROUPS).filter(|bit| exceeding.groups & (1 << bit) != 0);
            let places = bits.filter_map(place);
            exceeding.groups = places.fold(0, |groups, at| groups | 1 << at);
            // Drops groups whose process is no longer reported.
            let exceeded = self.known.get(&exceeding.process);
            let exceeded = exceeded.map_or(&[][..], |known| &known.exceeded);
            let reported = exceeded
                .iter()
                .fold(0, |groups, exceeded| groups | 1 << exceeded.group);
            exceeding.groups &= reported;
        }
        self.findings.retain(|_, exceeding| exceeding.groups != 0);
        reports
    }

    /// Compares all processes, and returns reports of thresholds that are exceeded or ended since the last round.
    pub fn update(
        &mut self,
        processes: impl IntoIterator<Item = ProcessCounts>,
        lookup: &mut impl Lookup,
    ) -> Vec<ThresholdReport> {
        let mut reports = Vec::new();
        self.round += 1;
        self.extra_lookups = 0;
        if self.groups.is_empty() {
            return reports;
        }
        let has = |measure| self.groups.iter().any(|group| group.of == measure);
        let needed = NeededValues {
            limit: has(Measure::LimitShare),
            growth: has(Measure::GrowthPerHour),
            pinned: has(Measure::PinnedBytes),
        };
        for counts in processes {
            self.update_process(counts, needed, lookup, &mut reports);
        }
        self.forget(&mut reports);
        reports
    }

    fn update_process(
        &mut self,
        counts: ProcessCounts,
        needed: NeededValues,
        lookup: &mut impl Lookup,
        reports: &mut Vec<ThresholdReport>,
    ) {
        let id = (counts.pid, counts.start_time);
        let is_turn = u64::from(counts.pid) % LOOKUP_ROUNDS == self.round % LOOKUP_ROUNDS;
        if let Some(known) = self.known.get_mut(&id) {
            known.seen = self.round;
            if is_turn {
                // Its program or name may have changed.
                known.excluded = 0;
            }
        }
        let is_large = counts.descriptors >= LARGE;
        let share = if needed.limit && is_large {
            self.limit(id, is_turn, lookup).map(|limit| {
                let limit = limit.unwrap_or(u64::MAX).max(1);
                100.0 * counts.descriptors as f64 / limit as f64
            })
        } else {
            Some(0.0)
        };
        let growth = if needed.growth && is_large {
            lookup
                .growth_per_hour(counts.pid)
                .map(|per_hour| per_hour as f64)
        } else {
            Some(0.0)
        };
        let pinned = match (needed.pinned && counts.holds_deleted, is_turn) {
            (true, true) => Some(lookup.pinned_bytes(counts.pid) as f64),
            (true, false) => None,
            (false, _) => Some(0.0),
        };
        for group in 0..self.groups.len() {
            let value = match self.groups[group].of {
                Measure::DuplicatesPerFile => continue,
                Measure::Descriptors => Some(counts.descriptors as f64),
                Measure::LimitShare => share,
                Measure::GrowthPerHour => growth,
                Measure::PinnedBytes => pinned,
            };
            // Not measured in this round: unchanged.
            let Some(value) = value else { continue };
            self.compare(id, group, value, lookup, reports);
        }
    }

    /// Returns the descriptor limit, if known; `Some(None)` if unlimited.
    fn limit(&mut self, id: Id, is_turn: bool, lookup: &mut impl Lookup) -> Option<Option<u64>> {
        let room = self.limits.len() < MAX_LIMITS;
        match self.limits.get_mut(&id) {
            Some((limit, seen)) => {
                *seen = self.round;
                if is_turn {
                    *limit = lookup.limit(id.0);
                }
                Some(*limit)
            }
            None if is_turn || (room && self.extra_lookups < MAX_EXTRA_LOOKUPS) => {
                self.extra_lookups += usize::from(!is_turn);
                let limit = lookup.limit(id.0);
                if room {
                    self.limits.insert(id, (limit, self.round));
                }
                Some(limit)
            }
            None => None,
        }
    }

    /// Compares a value with the threshold of a group.
    fn compare(
        &mut self,
        id: Id,
        group: usize,
        value: f64,
        lookup: &mut impl Lookup,
        reports: &mut Vec<ThresholdReport>,
    ) {
        let known = self.known.get_mut(&id);
        let exceeded = known.as_ref().and_then(|known| {
            let mut exceeded = known.exceeded.iter();
            exceeded.position(|exceeded| exceeded.group == group)
        });
        let is_exceeded = self.groups[group].is_exceeded(value, exceeded.is_some());
        match (exceeded, known) {
            (Some(at), Some(known)) if !is_exceeded => {
                let exceeded = known.exceeded.swap_remove(at);
                reports.extend(known.process.as_deref().map(|process| {
                    report(
                        &self.groups[group],
                        Change::Gone,
                        process,
                        value,
                        exceeded.severity,
                    )
                }));
            }
            (None, known) if is_exceeded => {
                if known.is_some_and(|known| known.excluded & (1 << group) != 0) {
                    return;
                }
                let process = lookup.process(id.0);
                let mut rules = self.groups[group].rules.iter();
                let severity = rules
                    .find(|(rule, _)| rule.matches_process(&process))
                    .map(|&(_, severity)| severity);
                let (known, no_room) = (&mut self.known, &mut self.no_room);
                let Some(known) = entry(known, id, self.round, no_room) else {
                    return;
                };
                let Some(severity) = severity else {
                    known.excluded |= 1 << group;
                    return;
                };
                known.exceeded.push(Exceeded {
                    group,
                    severity,
                    findings: 0,
                });
                let process = known.process.insert(Box::new(process));
                let group = &self.groups[group];
                reports.push(report(group, Change::Found, process, value, severity));
            }
            _ => {}
        }
    }

    /// Ends the thresholds of processes that have exited.
    fn forget(&mut self, reports: &mut Vec<ThresholdReport>) {
        let (round, groups) = (self.round, &self.groups);
        self.known.retain(|_, known| {
            if known.seen == round {
                return !known.exceeded.is_empty() || known.excluded != 0;
            }
            for exceeded in &known.exceeded {
                reports.extend(known.process.as_deref().map(|process| {
                    let group = &groups[exceeded.group];
                    report(group, Change::Gone, process, 0.0, exceeded.severity)
                }));
            }
            false
        });
        let known = &self.known;
        self.findings
            .retain(|_, exceeding| known.contains_key(&exceeding.process));
        self.limits.retain(|_, &mut (_, seen)| seen == round);
    }

    /// Compares a finding with the thresholds of `duplicates-per-file`. The caller must pass an ignored finding as
    /// gone.
    pub fn finding(&mut self, finding: &Finding) -> Vec<ThresholdReport> {
        let mut reports = Vec::new();
        let is_gone = finding.change == Change::Gone;
        let value = if is_gone { 0 } else { finding.open() } as f64;
        let before = self.findings.get(&finding.id).copied();
        let was = before.map_or(0, |exceeding| exceeding.groups);
        // Uses the identity of the process at the start of the finding.
        let id = before.map_or((finding.process.pid, finding.process.start_time), |it| {
            it.process
        });
        let mut exceeded = 0_u64;
        for (i, group) in self.groups.iter().enumerate() {
            let bit = 1 << i;
            let is_matched = || {
                group
                    .rules
                    .iter()
                    .any(|(rule, _)| rule.matches_finding(finding))
            };
            if group.of == Measure::DuplicatesPerFile
                && group.is_exceeded(value, was & bit != 0)
                && is_matched()
            {
                exceeded |= bit;
            }
        }
        if exceeded == was {
            return reports;
        }
        if was == 0 && self.findings.len() >= MAX_FINDINGS {
            self.no_room += 1;
            return reports;
        }
        for group in 0..self.groups.len() {
            let bit = 1 << group;
            if exceeded & bit == was & bit {
                continue;
            }
            if exceeded & bit == 0 {
                self.remove_finding(id, group, value, &mut reports);
            } else if !self.add_finding(id, group, finding, value, &mut reports) {
                exceeded &= !bit;
            }
        }
        if exceeded == 0 {
            self.findings.remove(&finding.id);
        } else {
            let exceeding = ExceedingFinding {
                process: id,
                groups: exceeded,
            };
            self.findings.insert(finding.id, exceeding);
        }
        reports
    }

    /// Adds a finding that exceeds a threshold. Returns whether there was room.
    fn add_finding(
        &mut self,
        id: Id,
        group: usize,
        finding: &Finding,
        value: f64,
        reports: &mut Vec<ThresholdReport>,
    ) -> bool {
        let mut rules = self.groups[group].rules.iter();
        let severity = rules
            .find(|(rule, _)| rule.matches_finding(finding))
            .map_or(finding.severity, |&(_, severity)| severity);
        let (known, no_room) = (&mut self.known, &mut self.no_room);
        let Some(known) = entry(known, id, self.round, no_room) else {
            return false;
        };
        if let Some(exceeded) = known
            .exceeded
            .iter_mut()
            .find(|exceeded| exceeded.group == group)
        {
            exceeded.findings += 1;
            return true;
        }
        known.exceeded.push(Exceeded {
            group,
            severity,
            findings: 1,
        });
        let process = known
            .process
            .get_or_insert_with(|| Box::new(finding.process.clone()));
        let group = &self.groups[group];
        reports.push(report(group, Change::Found, process, value, severity));
        true
    }

    /// Removes a finding that exceeded a threshold.
    fn remove_finding(
        &mut self,
        id: Id,
        group: usize,
        value: f64,
        reports: &mut Vec<ThresholdReport>,
    ) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        let mut exceeded = known.exceeded.iter();
        let Some(at) = exceeded.position(|exceeded| exceeded.group == group) else {
            return;
        };
        known.exceeded[at].findings = known.exceeded[at].findings.saturating_sub(1);
        if known.exceeded[at].findings > 0 {
            return;
        }
        let exceeded = known.exceeded.swap_remove(at);
        reports.extend(known.process.as_deref().map(|process| {
            let group = &self.groups[group];
            report(group, Change::Gone, process, value, exceeded.severity)
        }));
    }
}

/// The expensive values that thresholds need.
#[derive(Clone, Copy, Debug)]
struct NeededValues {
    limit: bool,
    growth: bool,
    pinned: bool,
}

/// Returns the entry of a process that was seen in this round, if there is room.
fn entry<'a>(
    known: &'a mut FxHashMap<Id, Known>,
    id: Id,
    round: u64,
    no_room: &mut u64,
) -> Option<&'a mut Known> {
    if known.len() >= MAX_PROCESSES && !known.contains_key(&id) {
        *no_room += 1;
        return None;
    }
    let known = known.entry(id).or_default();
    known.seen = round;
    Some(known)
}

/// Groups the thresholds of a configuration by measure and value.
fn groups(config: &Config) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for threshold in &config.thresholds {
        let rule = (threshold.rule.clone(), threshold.severity);
        let group = Group {
            of: threshold.of,
            above: threshold.above,
            rules: Vec::new(),
        };
        let at = groups
            .iter()
            .position(|known| known.has_same_threshold(&group));
        let at = at.unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        });
        groups[at].rules.push(rule);
    }
    // The parser rejects more.
    groups.truncate(MAX_GROUPS);
    groups
}

fn report(
    group: &Group,
    change: Change,
    process: &ProcessInfo,
    value: f64,
    severity: Severity,
) -> ThresholdReport {
    ThresholdReport {
        change,
        process: process.clone(),
        of: group.of,
        value,
        threshold: group.above,
        severity,
    }
}
