//! Adds paths and stacks of opens and closes to findings.

use fdwatch_core::{
    detail::{Detail, Details, Frame},
    diagnose::Finding,
};

use crate::symbols::Symbols;

/// Adds the recorded details of opens and closes to the descriptors of a finding.
pub fn add_detail(finding: &mut Finding, details: &Details, symbols: &mut Symbols) {
    let pid = finding.process.pid;
    if let Some(again) = &mut finding.closed_again
        && let Some(detail) = details.of_close(again.at)
    {
        again.stack = symbols.frames(pid, detail, true);
    }
    add_detail_with(finding, details, &mut |detail, is_same_program| {
        symbols.frames(pid, detail, is_same_program)
    });
}

/// Adds details like [`add_detail`]. `frames` symbolizes a stack; its second argument is whether the process
/// still runs the same program.
pub fn add_detail_with(
    finding: &mut Finding,
    details: &Details,
    frames: &mut impl FnMut(&Detail, bool) -> Vec<Frame>,
) {
    for descriptor in finding.fds.iter_mut().chain(&mut finding.closed) {
        if let Some(detail) = descriptor.opened.and_then(|made| details.of(made)) {
            descriptor.asked_path = detail.path.as_deref().map(<[u8]>::to_vec);
            descriptor.stack = frames(detail, descriptor.is_same_program);
        }
        if let Some(detail) = descriptor.closed.and_then(|at| details.of_close(at)) {
            descriptor.closed_stack = frames(detail, descriptor.is_closed_by_same_program);
        }
    }
}
