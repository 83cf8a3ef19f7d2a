//! Checks of what the kernel and the privileges support, for `fdwatch doctor`.

use std::{
    thread,
    time::{Duration, Instant},
};

use fdwatch_core::{
    engine::Engine,
    model::{Drift, Moment},
    plural::counted,
};
use fdwatch_host::{proc, proc_snapshot};
use fdwatch_probe::{
    Options, Probe, ProbeError,
    host::{self, Lockdown},
};

/// Result of one check.
#[derive(Debug)]
pub struct Check {
    /// Requirement that was checked, such as `kernel`.
    pub name: &'static str,
    /// The result.
    pub state: State,
    /// Result in words, such as a version; for a failure, the reason and how to fix it.
    pub detail: String,
}

/// State of a requirement, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Satisfied.
    Ok,
    /// Cannot be checked; fdwatch tries what depends on it.
    Unknown,
    /// fdwatch works without it, with reduced functionality.
    Reduced,
    /// fdwatch cannot work without it.
    Missing,
}

impl State {
    /// Returns the name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Reduced => "reduced",
            Self::Missing => "missing",
        }
    }
}

/// Runs all checks. Those that load programs run only if the others pass.
pub fn run_all() -> Vec<Check> {
    let mut checks = vec![
        check(
            "kernel",
            host::check_kernel().map(|_| host::kernel_release()),
        ),
        check(
            "privileges",
            host::check_privileges().map(|()| "sufficient for BPF".to_owned()),
        ),
        check(
            "seccomp",
            host::check_seccomp().map(|()| {
                let state = if host::is_filtered() {
                    "filter allows the required calls"
                } else {
                    "no filter"
                };
                state.to_owned()
            }),
        ),
        check(
            "pid namespace",
            host::check_pid_namespace().map(|()| "initial".to_owned()),
        ),
        lockdown_check(),
        check(
            "descriptors",
            host::raise_file_limit().map(|limit| format!("limit {limit}")),
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
    if checks.iter().all(|check| check.state <= State::Unknown) {
        checks.extend(load_checks());
    }
    checks.push(proc_check());
    checks
}

fn lockdown_check() -> Check {
    let name = "lockdown";
    match host::check_lockdown() {
        Ok(Lockdown::Unknown { reason }) => Check {
            name,
            state: State::Unknown,
            detail: reason,
        },
        Ok(Lockdown::Unsupported) => check(name, Ok("unsupported by this kernel".to_owned())),
        Ok(Lockdown::Mode(mode)) => check(name, Ok(mode)),
        Err(error) => check(name, Err(error)),
    }
}

/// Loads and attaches the programs of `watch`, takes a snapshot and audits it.
fn load_checks() -> Vec<Check> {
    let mut probe = match Probe::load(Options::default()) {
        Ok(probe) => probe,
        Err(error) => return vec![check("maps", Err(error))],
    };
    let mut checks = vec![check("maps", Ok("created".to_owned()))];
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
            "{} in {}",
            counted(engine.descriptors(), "descriptor"),
            counted(engine.model.processes().count(), "process")
        )
    });
    let mut snapshot = check("snapshot", taken);
    if snapshot.state == State::Ok {
        checks.push(snapshot);
        checks.push(audit_check(&mut probe, &mut engine));
    } else {
        // /proc replaces it.
        snapshot.state = State::Reduced;
        checks.push(snapshot);
    }
    probe.detach();
    checks
}

/// Time that events are followed before the first audit, and between the two audits.
const FOLLOW: Duration = Duration::from_secs(1);

/// Follows events for a moment, and compares the model with a second snapshot.
fn audit_check(probe: &mut Probe, engine: &mut Engine) -> Check {
    follow(probe, engine);
    let result = audit(probe, engine).and_then(|()| {
        // Differences caused by events that are still in the ring are resolved by reading these.
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
    let until = Instant::now() + FOLLOW;
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

/// Counts the processes that /proc hides: findings of these lack paths and command lines.
fn proc_check() -> Check {
    let (state, detail) = match proc_snapshot::take(&mut |_| {}) {
        Ok(0) => (State::Ok, "all processes readable".to_owned()),
        Ok(unreadable) => (
            State::Reduced,
            format!(
                "{} unreadable: findings lack paths",
                counted(unreadable, "process")
            ),
        ),
        Err(error) => (State::Reduced, format!("cannot read /proc: {error}")),
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
            detail: match error.help() {
                Some(help) => format!("{error}: {help}"),
                None => error.to_string(),
            },
        },
    }
}
