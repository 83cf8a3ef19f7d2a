//! Which processes are beyond a threshold.
//!
//! Looked at every few seconds, of all processes: by numbers that cost nothing. What costs is asked
//! only of those with many descriptors or with deleted files, and not at each look; who a process is,
//! only of those that are beyond. What is kept is bounded, and what found no room is counted.

use rustc_hash::FxHashMap;

use crate::config::{Config, Rule};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    duplicates::Change,
    growth::LARGE,
};
use fdwatch_events::event::{Measure, ThresholdReport};

/// It is over below this share of the threshold.
const OVER: f64 = 0.9;

/// What costs is asked again after so many looks, each time of another part of the processes.
const EVERY: u64 = 12;

/// Processes that are beyond a threshold, or that rules leave out.
const MAX_PROCESSES: usize = 4096;

/// Findings that are beyond a threshold.
const MAX_FINDINGS: usize = 65_536;

/// Processes whose limits are remembered; the others' are asked when it is their turn.
const MAX_LIMITS: usize = 16_384;

/// Limits that are asked at one look of processes that were not seen to have many before.
const MAX_ASKED: usize = 256;

/// Measures and how much there may be of them: as many as there are bits to say what was left out.
const MAX_GROUPS: usize = 64;

/// What is known of a process at no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Its number.
    pub pid: u32,
    /// When it was started: nanoseconds since boot.
    pub start_time: u64,
    /// Descriptors it has.
    pub descriptors: usize,
    /// Whether it may hold deleted files.
    pub holds_deleted: bool,
}

/// What is known of a process at a cost.
pub trait Ask {
    /// How many descriptors it may have (`RLIMIT_NOFILE`, soft), if that can be read and is limited.
    fn limit(&mut self, pid: u32) -> Option<u64>;
    /// By how many descriptors it becomes more in an hour, if that can be told now.
    fn growth_per_hour(&mut self, pid: u32) -> Option<u64>;
    /// Space that deleted files take which it holds: bytes.
    fn pinned_bytes(&mut self, pid: u32) -> u64;
    /// Who it is.
    fn process(&mut self, pid: u32) -> ProcessInfo;
}

/// A process: its number, and when it was started.
type Id = (u32, u64);

/// Thresholds of one measure that are equally high: of these, the first that is about a process holds.
#[derive(Clone, Debug)]
struct Group {
    of: Measure,
    above: f64,
    rules: Vec<(Rule, Severity)>,
}

impl Group {
    fn is(&self, other: &Self) -> bool {
        self.of == other.of && self.above.total_cmp(&other.above).is_eq()
    }

    /// Whether `value` is beyond, where it was or was not before.
    fn is_beyond(&self, value: f64, was: bool) -> bool {
        if was {
            value >= self.above * OVER
        } else {
            value > self.above
        }
    }
}

/// A process that is beyond, or that rules leave out.
#[derive(Debug, Default)]
struct Known {
    /// Who it is, if anything was told of it.
    process: Option<Box<ProcessInfo>>,
    told: Vec<EventKind>,
    /// Groups that it is beyond but whose rules are not about it: a bit for each.
    left_out: u64,
    /// When it was last there: the number of the look.
    seen: u64,
}

/// That a process is beyond.
#[derive(Clone, Copy, Debug)]
struct EventKind {
    group: usize,
    severity: Severity,
    /// The findings by which it is, with `duplicates-per-file`.
    findings: u32,
}

/// A finding that is beyond, and the groups whose threshold it is beyond: a bit for each.
#[derive(Clone, Copy, Debug)]
struct Beyond {
    process: Id,
    groups: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Thresholds {
    groups: Vec<Group>,
    known: FxHashMap<Id, Known>,
    findings: FxHashMap<u64, Beyond>,
    /// What each process may have, and when it was last there.
    limits: FxHashMap<Id, (Option<u64>, u64)>,
    look: u64,
    /// Limits that were asked at this look out of turn.
    asked: usize,
    no_room: u64,
}

impl Thresholds {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            groups: groups(config),
            ..Self::default()
        }
    }

    /// How often a process or finding was beyond a threshold and not told, for want of room.
    #[must_use]
    pub const fn no_room(&self) -> u64 {
        self.no_room
    }

    /// Takes over the thresholds of another configuration, and tells what is over since its threshold
    /// is no more, or its rules are not about it. Findings that are there are to be handed in again.
    pub fn reload(&mut self, config: &Config) -> Vec<ThresholdReport> {
        let new = groups(config);
        let mut reports = Vec::new();
        let before = std::mem::replace(&mut self.groups, new);
        let place = |group: usize| {
            let old = before.get(group)?;
            self.groups.iter().position(|new| new.is(old))
        };
        self.known.retain(|_, known| {
            known.left_out = 0;
            let Some(process) = &known.process else {
                return false;
            };
            known.told.retain_mut(|told| {
                let severity = place(told.group).and_then(|at| {
                    let rules = &self.groups[at].rules;
                    let by_rule = rules.iter().find(|(rule, _)| rule.is_of(process));
                    Some((at, by_rule?.1))
                });
                if let Some((at, severity)) = severity {
                    told.group = at;
                    // What was told of it before is not taken back for that.
                    told.severity = severity;
                    return true;
                }
                if let Some(old) = before.get(told.group) {
                    reports.push(report(old, Change::Gone, process, 0.0, told.severity));
                }
                false
            });
            !known.told.is_empty()
        });
        for beyond in self.findings.values_mut() {
            let bits = (0..MAX_GROUPS).filter(|bit| beyond.groups & (1 << bit) != 0);
            let places = bits.filter_map(place);
            beyond.groups = places.fold(0, |groups, at| groups | 1 << at);
            // Those whose process is not told of any more.
            let told = self.known.get(&beyond.process);
            let told = told.map_or(&[][..], |known| &known.told);
            let kept = told.iter().fold(0, |groups, told| groups | 1 << told.group);
            beyond.groups &= kept;
        }
        self.findings.retain(|_, beyond| beyond.groups != 0);
        reports
    }

    /// Looks at all processes there are: what has come to be beyond a threshold, and what is over.
    pub fn look(
        &mut self,
        processes: impl IntoIterator<Item = Numbers>,
        ask: &mut impl Ask,
    ) -> Vec<ThresholdReport> {
        let mut reports = Vec::new();
        self.look += 1;
        self.asked = 0;
        if self.groups.is_empty() {
            return reports;
        }
        let has = |measure| self.groups.iter().any(|group| group.of == measure);
        let wanted = Wanted {
            limit: has(Measure::LimitShare),
            growth: has(Measure::GrowthPerHour),
            pinned: has(Measure::PinnedBytes),
        };
        for numbers in processes {
            self.look_at(numbers, wanted, ask, &mut reports);
        }
        self.forget(&mut reports);
        reports
    }

    fn look_at(
        &mut self,
        numbers: Numbers,
        wanted: Wanted,
        ask: &mut impl Ask,
        reports: &mut Vec<ThresholdReport>,
    ) {
        let id = (numbers.pid, numbers.start_time);
        let is_turn = u64::from(numbers.pid) % EVERY == self.look % EVERY;
        if let Some(known) = self.known.get_mut(&id) {
            known.seen = self.look;
            if is_turn {
                // It may run another program since, or be called otherwise.
                known.left_out = 0;
            }
        }
        let is_large = numbers.descriptors >= LARGE;
        let share = if wanted.limit && is_large {
            self.limit(id, is_turn, ask).map(|limit| {
                let limit = limit.unwrap_or(u64::MAX).max(1);
                100.0 * numbers.descriptors as f64 / limit as f64
            })
        } else {
            Some(0.0)
        };
        let growth = if wanted.growth && is_large {
            ask.growth_per_hour(numbers.pid)
                .map(|per_hour| per_hour as f64)
        } else {
            Some(0.0)
        };
        let pinned = match (wanted.pinned && numbers.holds_deleted, is_turn) {
            (true, true) => Some(ask.pinned_bytes(numbers.pid) as f64),
            (true, false) => None,
            (false, _) => Some(0.0),
        };
        for group in 0..self.groups.len() {
            let value = match self.groups[group].of {
                Measure::DuplicatesPerFile => continue,
                Measure::Descriptors => Some(numbers.descriptors as f64),
                Measure::LimitShare => share,
                Measure::GrowthPerHour => growth,
                Measure::PinnedBytes => pinned,
            };
            // What was not measured is as it was.
            let Some(value) = value else { continue };
            self.hold(id, group, value, ask, reports);
        }
    }

    /// How many descriptors it may have, if that is known: nothing, if it has no limit.
    fn limit(&mut self, id: Id, is_turn: bool, ask: &mut impl Ask) -> Option<Option<u64>> {
        let room = self.limits.len() < MAX_LIMITS;
        match self.limits.get_mut(&id) {
            Some((limit, seen)) => {
                *seen = self.look;
                if is_turn {
                    *limit = ask.limit(id.0);
                }
                Some(*limit)
            }
            None if is_turn || (room && self.asked < MAX_ASKED) => {
                self.asked += usize::from(!is_turn);
                let limit = ask.limit(id.0);
                if room {
                    self.limits.insert(id, (limit, self.look));
                }
                Some(limit)
            }
            None => None,
        }
    }

    /// Holds a value against a group's threshold.
    fn hold(
        &mut self,
        id: Id,
        group: usize,
        value: f64,
        ask: &mut impl Ask,
        reports: &mut Vec<ThresholdReport>,
    ) {
        let known = self.known.get_mut(&id);
        let told = known.as_ref().and_then(|known| {
            let mut told = known.told.iter();
            told.position(|told| told.group == group)
        });
        let is_beyond = self.groups[group].is_beyond(value, told.is_some());
        match (told, known) {
            (Some(at), Some(known)) if !is_beyond => {
                let told = known.told.swap_remove(at);
                reports.extend(known.process.as_deref().map(|process| {
                    report(
                        &self.groups[group],
                        Change::Gone,
                        process,
                        value,
                        told.severity,
                    )
                }));
            }
            (None, known) if is_beyond => {
                if known.is_some_and(|known| known.left_out & (1 << group) != 0) {
                    return;
                }
                let process = ask.process(id.0);
                let mut rules = self.groups[group].rules.iter();
                let severity = rules
                    .find(|(rule, _)| rule.is_of(&process))
                    .map(|&(_, severity)| severity);
                let (known, no_room) = (&mut self.known, &mut self.no_room);
                let Some(known) = room(known, id, self.look, no_room) else {
                    return;
                };
                let Some(severity) = severity else {
                    known.left_out |= 1 << group;
                    return;
                };
                known.told.push(EventKind {
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

    /// Tells that it is over with processes that have ended.
    fn forget(&mut self, reports: &mut Vec<ThresholdReport>) {
        let (look, groups) = (self.look, &self.groups);
        self.known.retain(|_, known| {
            if known.seen == look {
                return !known.told.is_empty() || known.left_out != 0;
            }
            for told in &known.told {
                reports.extend(known.process.as_deref().map(|process| {
                    let group = &groups[told.group];
                    report(group, Change::Gone, process, 0.0, told.severity)
                }));
            }
            false
        });
        let known = &self.known;
        self.findings
            .retain(|_, beyond| known.contains_key(&beyond.process));
        self.limits.retain(|_, &mut (_, seen)| seen == look);
    }

    /// Looks at a finding that came, changed or went, and that no rule leaves out: its process may be
    /// beyond a threshold of `duplicates-per-file` by it. One that is left out from now on is to be
    /// handed in as one that is gone.
    pub fn finding(&mut self, finding: &Finding) -> Vec<ThresholdReport> {
        let mut reports = Vec::new();
        let is_gone = finding.change == Change::Gone;
        let value = if is_gone { 0 } else { finding.fds.len() } as f64;
        let before = self.findings.get(&finding.id).copied();
        let was = before.map_or(0, |beyond| beyond.groups);
        // Processes are known by what they were when the finding came.
        let id = before.map_or((finding.process.pid, finding.process.start_time), |it| {
            it.process
        });
        let mut is = 0_u64;
        for (i, group) in self.groups.iter().enumerate() {
            let bit = 1 << i;
            let about = || group.rules.iter().any(|(rule, _)| rule.is_about(finding));
            if group.of == Measure::DuplicatesPerFile
                && group.is_beyond(value, was & bit != 0)
                && about()
            {
                is |= bit;
            }
        }
        if is == was {
            return reports;
        }
        if was == 0 && self.findings.len() >= MAX_FINDINGS {
            self.no_room += 1;
            return reports;
        }
        for group in 0..self.groups.len() {
            let bit = 1 << group;
            if is & bit == was & bit {
                continue;
            }
            if is & bit == 0 {
                self.less(id, group, value, &mut reports);
            } else if !self.more(id, group, finding, value, &mut reports) {
                is &= !bit;
            }
        }
        if is == 0 {
            self.findings.remove(&finding.id);
        } else {
            let beyond = Beyond {
                process: id,
                groups: is,
            };
            self.findings.insert(finding.id, beyond);
        }
        reports
    }

    /// One more finding of a process is beyond. Whether there is room for it.
    fn more(
        &mut self,
        id: Id,
        group: usize,
        finding: &Finding,
        value: f64,
        reports: &mut Vec<ThresholdReport>,
    ) -> bool {
        let mut rules = self.groups[group].rules.iter();
        let severity = rules
            .find(|(rule, _)| rule.is_about(finding))
            .map_or(finding.severity, |&(_, severity)| severity);
        let (known, no_room) = (&mut self.known, &mut self.no_room);
        let Some(known) = room(known, id, self.look, no_room) else {
            return false;
        };
        if let Some(told) = known.told.iter_mut().find(|told| told.group == group) {
            told.findings += 1;
            return true;
        }
        known.told.push(EventKind {
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

    /// One finding less of a process is beyond.
    fn less(&mut self, id: Id, group: usize, value: f64, reports: &mut Vec<ThresholdReport>) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        let mut told = known.told.iter();
        let Some(at) = told.position(|told| told.group == group) else {
            return;
        };
        known.told[at].findings = known.told[at].findings.saturating_sub(1);
        if known.told[at].findings > 0 {
            return;
        }
        let told = known.told.swap_remove(at);
        reports.extend(known.process.as_deref().map(|process| {
            let group = &self.groups[group];
            report(group, Change::Gone, process, value, told.severity)
        }));
    }
}

/// What there are thresholds of that costs to know.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    limit: bool,
    growth: bool,
    pinned: bool,
}

/// What is known of a process that was there at that look, if there is room for it.
fn room<'a>(
    known: &'a mut FxHashMap<Id, Known>,
    id: Id,
    look: u64,
    no_room: &mut u64,
) -> Option<&'a mut Known> {
    if known.len() >= MAX_PROCESSES && !known.contains_key(&id) {
        *no_room += 1;
        return None;
    }
    let known = known.entry(id).or_default();
    known.seen = look;
    Some(known)
}

/// The thresholds of a configuration, those of one measure that are equally high together.
fn groups(config: &Config) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for threshold in &config.thresholds {
        let rule = (threshold.rule.clone(), threshold.severity);
        let group = Group {
            of: threshold.of,
            above: threshold.above,
            rules: Vec::new(),
        };
        let at = groups.iter().position(|known| known.is(&group));
        let at = at.unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        });
        groups[at].rules.push(rule);
    }
    // The reader refuses more.
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
