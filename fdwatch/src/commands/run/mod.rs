//! `fdwatch run -- CMD`: what the processes of a command leave open, let pass into other programs, or
//! hold twice.

mod command;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use self::command::{First, Outcome, exit_code};
use fdwatch_tracker::{Follower, Live, Wanted, now};

use super::EXIT_ERROR;
use crate::cli::Run;
use fdwatch_core::{
    Lost,
    detail::{Detail, Frame},
    diagnose::{Descriptor, FdHistory, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    engine::Engine,
    filter::Filter,
    leaks::{Fold, Kind, Leak, Leaks, Told, ignore::Ignore},
    mappings::Mappings,
    model::{Lineage, Program},
};
use fdwatch_events::{BudgetReport, RunReport, time::Clock, wire::Wire};
use fdwatch_host::{
    investigate::{self, Investigator, Source},
    proc,
    symbols::Symbols,
    unwind::Unwinder,
};
use fdwatch_options::{Detail as DetailOf, MaxCpu};
use fdwatch_probe::MemoryEvents;
use fdwatch_render::{Format, Reporter, junit};
use fdwatch_tracker::message::warn;

/// As shells have it, if there is no such command.
const EXIT_NOT_FOUND: u8 = 127;

/// The same, if it cannot be run.
const EXIT_NOT_EXECUTABLE: u8 = 126;

/// Duplicates that are told, at most.
const MAX_DUPLICATES: usize = 1000;

pub(super) fn run(arguments: &Run) -> Result<ExitCode> {
    let ignore = ignore(arguments)?;
    let outputs = Outputs::create(arguments)?;
    let mut first = First::hold(&arguments.command, arguments.wait)?;
    let live = Live::start(Wanted {
        ring_bytes: arguments.ring_size.0,
        all_types: arguments.all,
        // Nothing of it is to be left out.
        max_cpu: MaxCpu(f64::INFINITY),
        detail: DetailOf::Never,
        pids: Vec::new(),
        family: Some(first.pid),
        shows_steps: !arguments.quiet,
    })?;
    let filter = Filter {
        severity: if arguments.all {
            Severity::Info
        } else {
            Severity::Warning
        },
        ..Filter::default()
    };
    let mut runner = Runner {
        places: Places::of(first.pid),
        investigator: Investigator::new(filter, Source::Live),
        ignore,
        fold: Fold::default(),
        report: RunReport::new(&arguments.command),
        waits: arguments.wait,
    };
    let followed = live.follow(&mut first, &mut runner);
    if let Err(error) = &followed {
        warn(&format!("error: {error:#}; the command goes on without"));
    }
    let outcome = first.outcome().context("cannot wait for the command")?;
    let status = match outcome {
        Outcome::Ended(status) => status,
        Outcome::Failed(error) => return Ok(cannot_run(&arguments.command[0], &error)),
    };
    if followed.is_err() {
        return Ok(ExitCode::from(EXIT_ERROR));
    }
    let Runner { report, fold, .. } = runner;
    let report = RunReport {
        exit_code: exit_code(status),
        fold,
        ..report
    };
    outputs.write(&report)?;
    Ok(ExitCode::from(match arguments.error_exitcode {
        Some(code) if status.success() && !report.is_clean() => code,
        _ => report.exit_code,
    }))
}

fn cannot_run(program: &std::ffi::OsStr, error: &io::Error) -> ExitCode {
    let program = Path::new(program).display();
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound => (EXIT_NOT_FOUND, "there is no such command".to_owned()),
        _ => (EXIT_NOT_EXECUTABLE, error.to_string()),
    };
    warn(&format!("error: cannot run {program}: {reason}"));
    ExitCode::from(code)
}

fn ignore(arguments: &Run) -> Result<Ignore> {
    let mut ignore = Ignore::default();
    for path in &arguments.ignore {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        if let Err((line, reason)) = ignore.read(&text) {
            bail!("{name}:{line}: {reason}");
        }
    }
    Ok(ignore)
}

/// Where it is told, besides standard error.
struct Outputs<'a> {
    arguments: &'a Run,
    json: Option<File>,
    junit: Option<File>,
    host: String,
}

impl<'a> Outputs<'a> {
    /// Before the command is run, for it not to have been run in vain.
    fn create(arguments: &'a Run) -> Result<Self> {
        let create = |path: &Option<std::path::PathBuf>| {
            let create = |path: &std::path::PathBuf| {
                File::create(path).with_context(|| format!("cannot create {}", path.display()))
            };
            path.as_ref().map(create).transpose()
        };
        Ok(Self {
            arguments,
            json: create(&arguments.json)?,
            junit: create(&arguments.junit)?,
            host: proc::hostname(),
        })
    }

    fn write(self, report: &RunReport) -> Result<()> {
        let clock = Clock::new(proc::wall_time(), proc::boottime());
        let wire = Wire::new(self.host.clone(), clock.clone());
        let reporter = |output, format| Reporter::new(output, format, wire.clone());
        if !self.arguments.quiet {
            let output: Box<dyn io::Write> = Box::new(BufWriter::new(anstream::stderr()));
            // Where it cannot be said, no one listens.
            let _ = reporter(output, Format::Text).run(report, now());
        }
        if let (Some(file), Some(path)) = (self.json, &self.arguments.json) {
            let output: Box<dyn io::Write> = Box::new(BufWriter::new(file));
            let written = reporter(output, Format::Json).run(report, now());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let (Some(mut file), Some(path)) = (self.junit, &self.arguments.junit) {
            let xml = junit::report(report, &clock, now());
            let written = file.write_all(xml.as_bytes());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Takes what there is to tell, while those that it is about can still be asked.
struct Runner {
    places: Places,
    investigator: Investigator,
    ignore: Ignore,
    fold: Fold,
    report: RunReport,
    waits: bool,
}

/// Finds where in the command's programs descriptors were made.
struct Places {
    memory: Option<MemoryEvents>,
    mappings: Mappings,
    unwinder: Unwinder,
    symbols: Symbols,
}

impl Places {
    fn of(pid: u32) -> Self {
        let memory = MemoryEvents::of(pid);
        if let Err(error) = &memory {
            warn(&format!(
                "the kernel does not tell what programs map ({error}): stacks of those that have ended are without names"
            ));
        }
        Self {
            memory: memory.ok(),
            mappings: Mappings::default(),
            unwinder: Unwinder::default(),
            symbols: Symbols::default(),
        }
    }

    /// Takes in what was mapped up to now.
    fn update(&mut self) {
        let Self {
            memory, mappings, ..
        } = self;
        if let Some(memory) = memory {
            memory.take(|change| mappings.apply(change));
        }
    }

    fn frames(&mut self, pid: u32, detail: &Detail, is_same_program: bool) -> Vec<Frame> {
        let mappings = detail.program.map(|program| self.mappings.of(program));
        let Some(mappings) = mappings.filter(|mappings| !mappings.is_empty()) else {
            return self.symbols.frames(pid, detail, is_same_program);
        };
        let stack = match &detail.raw {
            Some(raw) => self.unwinder.frames_in(raw, mappings, now()),
            None => detail.stack.to_vec(),
        };
        self.symbols.frames_in(&stack, mappings)
    }
}

impl Runner {
    fn take_leaks(&mut self, engine: &mut Engine) {
        let Engine { leaks, details, .. } = engine;
        let Some(leaks) = leaks else { return };
        for leak in leaks.take() {
            let detail = details.of(leak.slot.born);
            let told = told(&leak, leaks, detail, &mut self.places);
            if told.is_script_of_shell() {
                continue;
            }
            if self.ignore.leak(&told) {
                self.report.ignored += 1;
            } else {
                self.fold.add(told);
            }
        }
    }

    fn take_duplicates(&mut self, engine: &mut Engine, is_slow: bool) {
        let Self {
            places,
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
        duplicates.settle(model, now, &mut |duplicate, model| {
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
            investigate::add_detail_by(&mut finding, details, &mut |detail, is_same_program| {
                places.frames(pid, detail, is_same_program)
            });
            if finding.process.exe.is_none() {
                let program = leaks.program_of(pid);
                let file = program.and_then(|program| places.mappings.file_of(program));
                finding.process.exe = file.map(<[u8]>::to_vec);
            }
            let mut all = finding.fds.iter().chain(&finding.closed);
            if finding.file.path.is_none() {
                finding.file.path = all.find_map(|descriptor| descriptor.asked_path.clone());
            }
            keep(&mut report.duplicates, finding, &mut report.more_duplicates);
        }
    }
}

/// Keeps of each duplicate what it was at last, with all descriptors that it had when it was more.
fn keep(duplicates: &mut Vec<Finding>, finding: Finding, more: &mut u64) {
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
    let is_more = finding.fds.len() + finding.closed.len() >= known.fds.len() + known.closed.len();
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

/// A leak, with all there is to know of it.
fn told(leak: &Leak, leaks: &Leaks, detail: Option<&Detail>, places: &mut Places) -> Told {
    let Leak {
        kind,
        tgid,
        fd,
        slot,
        provenance,
        at,
    } = *leak;
    // Whose it was is told by the leak itself.
    let way = FdHistory {
        provenance,
        lineage: &Lineage::default(),
        process: &ProcessInfo::default(),
    };
    let mut descriptor = Descriptor::new(fd, &slot, way);
    let now = leaks.program_of(tgid);
    let maker = detail.and_then(|detail| detail.program).or(now);
    let process = |pid: u32, program: Option<Program>| {
        let mut process = leaks.process(pid);
        let file = program.and_then(|program| places.mappings.file_of(program));
        process.exe = file.map(<[u8]>::to_vec);
        if program != leaks.program_of(pid)
            && let Some(exe) = &process.exe
        {
            // Its name is another program's by now.
            let name = exe.rsplit(|&byte| byte == b'/').next().unwrap_or(exe);
            process.comm = name[..name.len().min(15)].to_vec();
        }
        process
    };
    let made_by = maker.map_or(tgid, |maker| maker.tgid);
    let (made_by, into) = match kind {
        Kind::AtExit => (process(tgid, now), None),
        Kind::OverExec => (process(made_by, maker), Some(process(tgid, now))),
    };
    if let Some(detail) = detail {
        descriptor.asked_path = detail.path.as_deref().map(<[u8]>::to_vec);
        descriptor.stack = places.frames(made_by.pid, detail, descriptor.is_of_program);
    }
    Told {
        kind,
        process: made_by,
        into,
        file: FileInfo::new(
            descriptor.asked_path.clone(),
            slot.dev,
            slot.ino,
            slot.file_type(),
        ),
        descriptor,
        at,
    }
}

impl Follower for Runner {
    fn started(&mut self, _: &mut Live) -> Result<()> {
        Ok(())
    }

    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()> {
        self.places.update();
        self.take_leaks(&mut live.engine);
        self.take_duplicates(&mut live.engine, is_slow);
        let Engine { leaks, details, .. } = &mut live.engine;
        if let Some(leaks) = leaks {
            leaks
                .take_closed()
                .into_iter()
                .for_each(|made| details.made_was_closed(made));
        }
        Ok(())
    }

    fn is_over(&self, live: &Live) -> bool {
        let leaks = live.engine.leaks.as_ref();
        self.waits && leaks.is_some_and(|leaks| leaks.have_all_ended())
    }

    fn lost(&mut self, _: &mut Live, _: &Lost) -> Result<()> {
        // It is in the account.
        Ok(())
    }

    fn budget(&mut self, _: &mut Live, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        if let Some(leaks) = &live.engine.leaks {
            self.report.processes = leaks.processes();
            self.report.more_leaks = leaks.more() + self.fold.more();
            let running = leaks.running().into_iter();
            // One that ends just now has been told by the kernel, or is about to be.
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
        let mappings_lost = self.places.memory.as_ref().map_or(0, MemoryEvents::lost);
        self.report.mappings_lost = mappings_lost;
        self.report.stats = live.stats;
        Ok(())
    }
}
