//! What the rules of the configuration make of findings, and of processes beyond a threshold.
//!
//! Pure: no clock, no I/O; what is known of a process is handed in, or asked for.

mod thresholds;

pub use self::thresholds::{Ask, Numbers, Thresholds};

use super::config::{Config, Rule};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    filter::{Filter, matches},
    model::FileType,
};

/// What becomes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is told.
    EventKind,
    /// A rule leaves it out.
    Ignored,
    /// It matters less than what is wanted.
    BelowSeverity,
}

/// The rules about findings.
#[derive(Clone, Debug)]
pub struct Rules {
    ignore: Vec<Rule>,
    severity: Vec<(Rule, Severity)>,
    least: Severity,
}

impl Rules {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            ignore: config.ignore.clone(),
            severity: config.severity.clone(),
            least: config.watch.severity,
        }
    }

    /// The least severity that findings must have to be judged at all: a rule may make more of one
    /// than it is by itself.
    #[must_use]
    pub fn least_judged(&self) -> Severity {
        let raises = self.severity.iter().any(|&(_, to)| to >= self.least);
        if raises { Severity::Info } else { self.least }
    }

    /// What becomes of a finding, which is given the severity that it has by the rules. The first that
    /// it is about holds.
    ///
    /// Rules know nothing of what was told before: what has changed so that it is told no more is
    /// `Ignored` or `BelowSeverity`, and whoever told it must say that it is gone.
    pub fn judge(&self, finding: &mut Finding) -> Verdict {
        if self.ignore.iter().any(|rule| rule.is_about(finding)) {
            return Verdict::Ignored;
        }
        let mut rules = self.severity.iter();
        if let Some(&(_, severity)) = rules.find(|(rule, _)| rule.is_about(finding)) {
            finding.severity = severity;
        }
        if finding.severity < self.least {
            return Verdict::BelowSeverity;
        }
        Verdict::EventKind
    }
}

impl Rule {
    /// Whether it is about a finding. A file's path may be the one its process sees.
    #[must_use]
    pub fn is_about(&self, finding: &Finding) -> bool {
        let paths = [&finding.file.path, &finding.file.process_path];
        let is_on_path = || {
            let mut paths = paths.iter().copied();
            paths.any(|path| matches(self.path.as_ref(), path.as_ref()))
        };
        (self.cause.is_empty() || self.cause.contains(&finding.cause))
            && is_on_path()
            && self.is_of(&finding.process)
    }

    /// Whether it is about a process, whatever file.
    #[must_use]
    pub fn is_of(&self, process: &ProcessInfo) -> bool {
        matches(self.comm.as_ref(), Some(&process.comm))
            && matches(self.exe.as_ref(), process.exe.as_ref())
            && matches(self.unit.as_ref(), process.workload.unit.as_ref())
    }
}

/// Returns the filter that selects findings for the rules to judge: those of sufficient severity, and those whose
/// severity a rule may raise.
#[must_use]
pub fn filter(config: &Config) -> Filter {
    let types = if config.watch.all_types {
        Vec::new()
    } else {
        vec![FileType::Regular]
    };
    Filter {
        severity: Rules::new(config).least_judged(),
        types,
        ..Filter::default()
    }
}

#[cfg(test)]
mod tests;
