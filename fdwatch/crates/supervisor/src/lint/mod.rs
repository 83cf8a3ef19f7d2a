//! Problems in configurations of supervisord, found by named rules. Each was verified with
//! supervisord 4.2.5 or in its code. Pure: the caller supplies the host.

mod files;
mod linter;
mod problem;
mod rotation;
mod rule;
mod settings;
mod shared;

use std::collections::BTreeMap;

use self::linter::Linter;
pub use self::{
    problem::{FileLine, Problem},
    rule::Rule,
};
use crate::{config::Config, host::Host, logrotate::Rotations};

/// Returns all problems, in the order of the files and their lines.
#[must_use]
pub fn lint(config: &Config, rotations: &Rotations, host: &dyn Host) -> Vec<Problem> {
    let mut linter = Linter::new(config, rotations, host);
    settings::check(&mut linter);
    let logs = linter.logs();
    files::check(&mut linter, &logs);
    shared::check(&mut linter, &logs);
    rotation::check(&mut linter, &logs);
    let mut problems = linter.problems;
    let order: BTreeMap<_, _> = config.files.iter().zip(0..).collect();
    problems.sort_by_key(|problem| {
        (
            order.get(&problem.at.file).copied(),
            problem.at.line,
            problem.rule,
        )
    });
    problems
}
