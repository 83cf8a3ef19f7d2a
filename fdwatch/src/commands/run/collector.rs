//! Collects the leaked, inherited and duplicate descriptors of a command.

use anyhow::Result;
use fdwatch_core::{
    Lost,
    detail::Detail,
    diagnose::{Descriptor, FdHistory, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    engine::Engine,
    filter::Filter,
    leaks::{Leak, LeakGroups, LeakKind, LeakReport, Leaks, ignore::Ignore},
    model::{Lineage, Program},
};
use fdwatch_events::BudgetReport;
use fdwatch_events::RunReport;
use fdwatch_host::{
    investigate::{self, Investigator, Source},
    proc,
};
use fdwatch_tracker::{EventHandler, Tracker, now};

use super::call_sites::CallSites;
use crate::cli::Run;

/// Maximum number of reported duplicates.
const MAX_DUPLICATES: usize = 1000;

/// Collects leaks and duplicates while their processes can still be examined.
pub(super) struct Collector {
    call_sites: CallSites,
    investigator: Investigator,
    ignore: Ignore,
    fold: LeakGroups,
    report: RunReport,
    /// Whether to continue until all processes of the command have exited.
    waits: bool,
}

impl Collector {
    /// Creates a collector for the process `pid`, which runs the command, and its descendants.
    pub(super) fn new(pid: u32, arguments: &Run, ignore: Ignore) -> Self {
        let filter = Filter {
            severity: if arguments.all {
                Severity::Info
            } else {
                Severity::Warning
            },
            ..Filter::default()
        };
        Self {
            call_sites: CallSites::new(pid),
            investigator: Investigator::new(filter, Source::Live),
            ignore,
            fold: LeakGroups::default(),
            report: RunReport::new(&arguments.command),
            waits: arguments.wait,
        }
    }

    /// Returns the report of a command that exited with this code.
    pub(super) fn into_report(self, exit_code: u8) -> RunReport {
        RunReport {
            exit_code,
            fold: self.fold,
            ..self.report
        }
    }

    fn take_leaks(&mut self, engine: &mut Engine) {
        let Engine { leaks, details, .. } = engine;
        let Some(leaks) = leaks else { return };
        for leak in leaks.take() {
            let detail = details.of(leak.entry.opened);
            let report = leak_report(&leak, leaks, detail, &mut self.call_sites);
            if report.is_script_of_shell() {
                continue;
            }
            if self.ignore.leak(&report) {
                self.report.ignored += 1;
            } else {
                self.fold.add(report);
            }
        }
    }

    fn take_duplicates(&mut self, engine: &mut Engine, is_slow: bool) {
        let Self {
            call_sites,
            investigator,
            report,
            ..
        } = self;
        let Engine {
            model,
            duplicates,
            details,
            leaks,
            ..
        } = engine;
        let Some(leaks) = leaks else { return };
        let now = now();
        let mut findings = Vec::new();
        duplicates.settle_all(model, now, &mut |duplicate, model| {
            if leaks.is_member(duplicate.tgid) {
                findings.extend(investigator.finding(duplicate, model));
            }
        });
        if is_slow {
            duplicates.sweep(
                model,
                now,
                &mut investigate::path_of,
                &mut |rotation, model| {
                    if leaks.is_member(rotation.tgid) {
                        findings.extend(investigator.rotation(rotation, model));
                    }
                },
            );
        }
        for mut finding in findings {
            let pid = finding.process.pid;
            investigate::add_detail_with(&mut finding, details, &mut |detail, is_same_program| {
                call_sites.frames(pid, detail, is_same_program)
            });
            if finding.process.exe.is_none() {
                let program = leaks.program_of(pid);
                let file = program.and_then(|program| call_sites.mappings.file_of(program));
                finding.process.exe = file.map(<[u8]>::to_vec);
            }
            let mut all = finding.fds.iter().chain(&finding.closed);
            if finding.file.path.is_none() {
                finding.file.path = all.find_map(|descriptor| descriptor.asked_path.clone());
            }
            merge(&mut report.duplicates, finding, &mut report.more_duplicates);
        }
    }
}

/// Merges a duplicate into the report: its latest state, with its maximum set of descriptors.
fn merge(duplicates: &mut Vec<Finding>, finding: Finding, more: &mut u64) {
    let known = duplicates.iter_mut().find(|known| known.id == finding.id);
    let Some(known) = known else {
        if duplicates.len() < MAX_DUPLICATES {
            duplicates.push(finding);
        } else {
            *more += 1;
        }
        return;
    };
    let path = known.file.path.take();
    let severity = known.severity.max(finding.severity);
    let was_gone = known.change == Change::Gone;
    let times = known.times + if was_gone { finding.times } else { 0 };
    let (lifetime, process) = (finding.lifetime, known.process.clone());
    let is_more = finding.open() + finding.closed.len() >= known.open() + known.closed.len();
    if is_more {
        *known = finding;
    } else {
        known.change = finding.change;
    }
    if known.process.exe.is_none() {
        known.process = process;
    }
    known.file.path = path.or(known.file.path.take());
    (known.severity, known.times, known.lifetime) = (severity, times, lifetime);
}

/// Completes a leak with its processes, programs and call site.
fn leak_report(
    leak: &Leak,
    leaks: &Leaks,
    detail: Option<&Detail>,
    call_sites: &mut CallSites,
) -> LeakReport {
    let Leak {
        kind,
        tgid,
        fd,
        entry,
        provenance,
        at,
    } = *leak;
    // The leak itself names the processes, so the lineage stays empty.
    let history = FdHistory {
        provenance,
        lineage: &Lineage::default(),
        process: &ProcessInfo::default(),
    };
    let mut descriptor = Descriptor::new(fd, &entry, history);
    let now = leaks.program_of(tgid);
    let opener_program = detail.and_then(|detail| detail.program).or(now);
    let process = |pid: u32, program: Option<Program>| {
        let mut process = leaks.process(pid);
        let file = program.and_then(|program| call_sites.mappings.file_of(program));
        process.exe = file.map(<[u8]>::to_vec);
        if program != leaks.program_of(pid)
            && let Some(exe) = &process.exe
        {
            // The process executes another program now, so its current name is not that of `program`.
            let name = exe.rsplit(|&byte| byte == b'/').next().unwrap_or(exe);
            process.comm = name[..name.len().min(15)].to_vec();
        }
        process
    };
    let opener = opener_program.map_or(tgid, |program| program.tgid);
    let (opener, into) = match kind {
        LeakKind::AtExit => (process(tgid, now), None),
        LeakKind::AcrossExec => (process(opener, opener_program), Some(process(tgid, now))),
    };
    if let Some(detail) = detail {
        descriptor.asked_path = detail.path.as_deref().map(<[u8]>::to_vec);
        descriptor.stack = call_sites.frames(opener.pid, detail, descriptor.is_same_program);
    }
    LeakReport {
        kind,
        process: opener,
        into,
        file: FileInfo::new(
            descriptor.asked_path.clone(),
            entry.dev,
            entry.ino,
            entry.file_type(),
        ),
        descriptor,
        at,
    }
}

impl EventHandler for Collector {
    fn started(&mut self, _: &mut Tracker) -> Result<()> {
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        self.call_sites.update();
        self.take_leaks(&mut live.engine);
        self.take_duplicates(&mut live.engine, is_slow);
        let Engine { leaks, details, .. } = &mut live.engine;
        if let Some(leaks) = leaks {
            leaks
                .take_closed()
                .into_iter()
                .for_each(|made| details.opener_closed(made));
        }
        Ok(())
    }

    fn is_over(&self, live: &Tracker) -> bool {
        let leaks = live.engine.leaks.as_ref();
        self.waits && leaks.is_some_and(|leaks| leaks.have_all_ended())
    }

    fn lost(&mut self, _: &mut Tracker, _: &Lost) -> Result<()> {
        // The report counts them.
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        if let Some(leaks) = &live.engine.leaks {
            self.report.processes = leaks.processes();
            self.report.more_leaks = leaks.more() + self.fold.more();
            let running = leaks.running().into_iter();
            // The exit event of a process may not have been read yet.
            let running = running.filter(|&pid| proc::exists(pid));
            self.report.running = running.map(|pid| leaks.process(pid)).collect();
        }
        let before = self.report.duplicates.len();
        let ignore = &self.ignore;
        self.report
            .duplicates
            .retain(|finding| !ignore.duplicate(finding));
        let ignored = before - self.report.duplicates.len();
        self.report.ignored += ignored as u64;
        self.report.mappings_lost = self.call_sites.lost();
        self.report.stats = live.stats;
        Ok(())
    }
}
