//! `fdwatch trace`: prints descriptor calls of processes as they happen.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{
    output::{Output, WritingOutput as _, reporter},
    pid,
};
use crate::{cli::Trace, error::HELP};
use fdwatch_core::{
    Lost,
    model::Model,
    plural::counted,
    trace::{Call, CallKind, Tracer},
};
use fdwatch_events::BudgetReport;
use fdwatch_events::TracedCall;
use fdwatch_host::{investigate, proc};
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_render::Reporter;
use fdwatch_tracker::message::{info, warn};
use fdwatch_tracker::{
    EventHandler, SignalOrTimeout, Tracker, TrackerOptions, now, priority::DEFAULT_NICE,
};

pub(super) fn run(trace: &Trace) -> Result<ExitCode> {
    if trace.pid.is_empty() && trace.comm.is_empty() {
        bail!("nothing to trace{HELP}name processes with --pid or --comm");
    }
    pid::check_all(&trace.pid)?;
    let mut live = Tracker::start(TrackerOptions {
        ring_bytes: trace.ring_size.0,
        all_types: true,
        // No event may be dropped.
        max_cpu: MaxCpu(f64::INFINITY),
        detail: Detail::Suspects,
        pids: trace.pid.clone(),
        family: None,
        nice: Some(DEFAULT_NICE),
        shows_steps: true,
    })?;
    let comm = fdwatch_options::parse::globs(&trace.comm)?;
    live.tracer = Some(Tracer::new(&trace.pid, comm, !trace.no_follow));
    let mut printer = Printer {
        reporter: reporter(trace.output.format()),
        left_out: 0,
    };
    live.follow(&mut SignalOrTimeout::after(trace.duration), &mut printer)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints calls.
struct Printer {
    reporter: Reporter<Output>,
    /// Number of skipped calls that was last reported.
    left_out: u64,
}

impl Printer {
    fn print(&mut self, live: &mut Tracker) -> Result<()> {
        let Some(tracer) = &mut live.tracer else {
            return Ok(());
        };
        let (calls, fresh, left_out) = (tracer.calls(), tracer.fresh(), tracer.left_out());
        self.reporter.wire.clock.adjust(proc::wall_time(), now().0);
        for call in calls {
            let path = path(&call, &live.engine.model);
            let at = call.at;
            self.reporter
                .report(&TracedCall { call, path }, at)
                .writing_output()?;
        }
        if left_out > self.left_out {
            warn(&format!(
                "{} skipped: output is too slow",
                counted(left_out, "call")
            ));
            self.left_out = left_out;
        }
        self.reporter.flush().writing_output()?;
        for pid in fresh {
            live.add_detail_target(pid);
        }
        Ok(())
    }
}

/// Reads the path of the file that a call opened from /proc, if the descriptor is still open on it.
fn path(call: &Call, model: &Model) -> Option<Vec<u8>> {
    let &CallKind::Made {
        fd,
        file,
        asked: None,
        ..
    } = &call.what
    else {
        return None;
    };
    let entry = model.table_of(call.pid)?.get(fd)?;
    let path = (entry.file == file).then(|| investigate::path_of(call.pid, fd, entry))?;
    path.map(|path| path.bytes)
}

impl EventHandler for Printer {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        let Tracker { engine, tracer, .. } = live;
        if let Some(tracer) = tracer {
            tracer.search(&engine.model);
        }
        info(&fdwatch_render::text::started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, _: bool) -> Result<()> {
        self.print(live)
    }

    fn is_over(&self, live: &Tracker) -> bool {
        live.tracer.as_ref().is_some_and(Tracer::is_over)
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        self.reporter
            .report(lost, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn budget(&mut self, _: &mut Tracker, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        self.print(live)
    }
}
