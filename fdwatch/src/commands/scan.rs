//! `fdwatch scan`: reports current duplicates.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    output::{WritingOutput as _, reporter},
    pid,
};
use crate::cli::Scan;
use fdwatch_core::{
    duplicates::SharedFile,
    engine::Engine,
    model::{Model, Moment},
    plural::counted,
};
use fdwatch_host::{
    investigate::{self, Investigator, Source},
    proc,
};
use fdwatch_render::Format;
use fdwatch_tracker::message::warn;
use fdwatch_tracker::snapshot;

pub(super) fn run(scan: &Scan) -> Result<ExitCode> {
    let filter = scan.filters.filter()?;
    pid::check_all(&scan.filters.pid)?;
    let snapshot::Snapshot {
        mut engine,
        unreadable,
    } = snapshot::take(scan.source.proc, scan.filters.all_types())?;
    let mut reporter = reporter(scan.output.format());
    let mut investigator = Investigator::new(filter, Source::Live);
    let now = engine.model.now();
    let mut findings = Vec::new();
    engine.settle(now, &mut |duplicate, model| {
        findings.extend(investigator.finding(duplicate, model));
    });
    engine.sweep(
        Moment(u64::MAX),
        &mut investigate::path_of,
        &mut |rotation, model| findings.extend(investigator.rotation(rotation, model)),
    );
    // A shared file is only reported when a second search finds it again.
    for time in [u64::MAX / 2, u64::MAX] {
        let shared = &mut |shared: &SharedFile<'_>, model: &Model| {
            findings.extend(investigator.shared(shared, model));
        };
        let Engine {
            model, duplicates, ..
        } = &mut engine;
        duplicates.search_shared(model, Moment(time), shared);
    }
    // Sorts by severity, highest first.
    findings.sort_by_key(|finding| {
        (
            std::cmp::Reverse(finding.severity),
            finding.process.pid,
            finding.fds.first().map(|first| first.fd),
        )
    });
    for finding in &findings {
        reporter.report(finding, now).writing_output()?;
    }
    reporter.flush().writing_output()?;
    let folded = engine.duplicates.folded();
    if folded.files > 0 {
        let files = counted(folded.files, "file");
        let processes = counted(folded.tables, "process");
        warn(&format!(
            "too many findings: {files} of {processes} not reported"
        ));
    }
    if unreadable > 0 {
        let processes = counted(unreadable, "process");
        let advice = if proc::effective_user() == 0 {
            ""
        } else {
            "; run as root to read all processes"
        };
        warn(&format!("cannot read {processes}{advice}"));
    }
    if findings.is_empty() {
        if scan.output.format() == Format::Text {
            let descriptors = counted(engine.descriptors(), "descriptor");
            let processes = counted(engine.model.processes().count(), "process");
            warn(&format!("no duplicates: {descriptors} in {processes}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
}
