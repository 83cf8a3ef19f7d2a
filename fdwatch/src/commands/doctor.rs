//! `fdwatch doctor`: what this kernel and these privileges allow, found out by doing it.

use std::{
    io::Write as _,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use super::{EXIT_ERROR, WritingOutput as _};
use crate::cli::Doctor;
use fdwatch_core::{
    engine::Engine,
    model::{Drift, Moment},
    plural::{counted, either},
};
use fdwatch_events::wire::{self, Object};
use fdwatch_host::proc;
use fdwatch_host::proc_snapshot;
use fdwatch_probe::{Options, Probe, ProbeError, host};
use fdwatch_render::json_line;

/// Result of a check.
struct Check {
    name: &'static str,
    state: State,
    /// What was found, or what is wrong and how to solve it.
    detail: String,
}

/// State of a requirement, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    /// fdwatch works, with reduced functionality.
    Reduced,
    /// fdwatch cannot work.
    Missing,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Reduced => "reduced",
            Self::Missing => "missing",
        }
    }
}

pub(super) fn run(doctor: &Doctor) -> Result<ExitCode> {
    let checks = checks();
    // What can be done without a snapshot from the kernel, can be done.
    let verdict = checks.iter().map(|check| check.state).max();
    let verdict = verdict.unwrap_or(State::Ok);
    let mut output = anstream::stdout().lock();
    if doctor.output.json {
        let checks = checks.into_iter().map(|check| wire::Check {
            name: check.name.into(),
            state: check.state.name().into(),
            detail: check.detail,
        });
        let line = json_line(&Object::new(wire::Doctor {
            verdict: verdict.name().into(),
            checks: checks.collect(),
        }))?;
        output.write_all(line.as_bytes()).writing_output()?;
    } else {
        for check in &checks {
            let style = match check.state {
                State::Ok => AnsiColor::Green.on_default(),
                State::Reduced => AnsiColor::Yellow.on_default(),
                State::Missing => AnsiColor::Red.on_default().bold(),
            };
            let word = check.state.name();
            let Check { name, detail, .. } = check;
            writeln!(output, "{style}{word:<8}{style:#} {name:<14} {detail}").writing_output()?;
        }
        let sentence = match verdict {
            State::Ok => "everything works here",
            State::Reduced => "fdwatch works here, with less than it could",
            State::Missing => "fdwatch cannot watch here",
        };
        let bold = Style::new().bold();
        writeln!(output, "{bold}{sentence}{bold:#}").writing_output()?;
    }
    output.flush().writing_output()?;
    Ok(match verdict {
        State::Ok => ExitCode::SUCCESS,
        State::Reduced => ExitCode::from(1),
        State::Missing => ExitCode::from(EXIT_ERROR),
    })
}

fn checks() -> Vec<Check> {
    let mut checks = vec![
        check(
            "kernel",
            host::check_kernel().map(|_| host::kernel_release()),
        ),
        check(
            "privileges",
            host::check_privileges().map(|()| "enough for BPF".to_owned()),
        ),
        check(
            "seccomp",
            host::check_seccomp().map(|()| {
                let what = if host::is_filtered() {
                    "the filter allows what is needed"
                } else {
                    "no filter"
                };
                what.to_owned()
            }),
        ),
        check(
            "pid namespace",
            host::check_pid_namespace().map(|()| "the initial one".to_owned()),
        ),
        check(
            "lockdown",
            host::check_lockdown()
                .map(|()| host::lockdown_mode().unwrap_or_else(|| "not in this kernel".to_owned())),
        ),
        check(
            "BTF",
            host::read_btf().map(|btf| format!("{}, {} KiB", host::BTF_PATH, btf.len() >> 10)),
        ),
        check(
            "tracefs",
            host::mounted_tracefs().map(|path| path.display().to_string()),
        ),
    ];
    if checks.iter().all(|check| check.state == State::Ok) {
        checks.extend(try_it());
    }
    checks.push(proc_check());
    checks
}

/// Loads and attaches what `watch` does, and takes a snapshot.
fn try_it() -> Vec<Check> {
    let mut probe = match Probe::load(Options::default()) {
        Ok(probe) => probe,
        Err(error) => return vec![check("maps", Err(error))],
    };
    let mut checks = vec![check("maps", Ok("the ring and its counters".to_owned()))];
    let attached = probe.attach();
    checks.push(check(
        "programs",
        attached.map(|()| "loaded and attached".to_owned()),
    ));
    let mut engine = Engine::new(proc::anonymous_devices(), true);
    let taken = engine
        .snapshot(|on_record| probe.snapshot(|record| on_record(record, Moment(proc::boottime()))));
    let taken = taken.map(|()| {
        format!(
            "{} of {}",
            counted(engine.descriptors(), "descriptor"),
            counted(engine.model.processes().count(), "process")
        )
    });
    let mut snapshot = check("snapshot", taken);
    if snapshot.state == State::Ok {
        checks.push(snapshot);
        checks.push(audit_check(&mut probe, &mut engine));
    } else {
        // There is another way.
        snapshot.state = State::Reduced;
        checks.push(snapshot);
    }
    probe.detach();
    checks
}

/// How long events are followed before the tables are held against the kernel's, and between the
/// two looks of that.
const FOLLOWED: Duration = Duration::from_secs(1);

/// Follows events for a moment, and holds what came of it against the kernel.
fn audit_check(probe: &mut Probe, engine: &mut Engine) -> Check {
    follow(probe, engine);
    let result = audit(probe, engine).and_then(|()| {
        // What is on its way ends what is only a moment's difference.
        follow(probe, engine);
        audit(probe, engine)
    });
    let name = "audit";
    if let Err(error) = result {
        let mut check = check(name, Err(error));
        check.state = State::Reduced;
        return check;
    }
    let lost = probe.lost().map_or(0, |lost| lost.total());
    let statistics = engine.model.statistics();
    let (drift, events) = (statistics.drift, statistics.events());
    let state = if drift.total() == 0 && lost == 0 {
        State::Ok
    } else {
        State::Reduced
    };
    let Drift {
        missing,
        phantom,
        wrong_file,
        close_on_exec,
        ..
    } = drift;
    let descriptors = counted(engine.descriptors(), "descriptor");
    let events = counted(events, "event");
    let detail = match state {
        State::Ok => format!("drift 0 of {descriptors}, after {events}"),
        _ => format!(
            "drift {} of {descriptors}, after {events}, lost {lost}: missing {missing}, phantom \
             {phantom}, wrong file {wrong_file}, close-on-exec {close_on_exec}",
            drift.total(),
        ),
    };
    Check {
        name,
        state,
        detail,
    }
}

fn follow(probe: &mut Probe, engine: &mut Engine) {
    let until = Instant::now() + FOLLOWED;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        let now = Moment(proc::boottime());
        probe.drain_once(|record| engine.record(record, now));
    }
}

fn audit(probe: &mut Probe, engine: &mut Engine) -> Result<(), ProbeError> {
    engine.begin_audit();
    let taken = probe.snapshot(|record| engine.record(record, Moment(proc::boottime())));
    engine.end_audit();
    taken
}

/// What /proc does not show is told without path and command line.
fn proc_check() -> Check {
    let (state, detail) = match proc_snapshot::take(&mut |_| {}) {
        Ok(0) => (State::Ok, "all processes can be read".to_owned()),
        Ok(unreadable) => (
            State::Reduced,
            format!(
                "{} cannot be read: {} findings are without paths",
                counted(unreadable, "process"),
                either(&unreadable, "its", "their")
            ),
        ),
        Err(error) => (State::Reduced, format!("/proc cannot be read: {error}")),
    };
    Check {
        name: "/proc",
        state,
        detail,
    }
}

fn check(name: &'static str, result: Result<String, ProbeError>) -> Check {
    match result {
        Ok(detail) => Check {
            name,
            state: State::Ok,
            detail,
        },
        Err(error) => Check {
            name,
            state: State::Missing,
            detail: error.to_string(),
        },
    }
}
