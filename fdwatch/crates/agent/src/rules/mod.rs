//! The rules and thresholds of the configuration, applied to findings and processes.
//!
//! Pure: no clock and no I/O. Data of processes is a parameter or comes from a [`Lookup`].

mod thresholds;

pub use self::thresholds::{Lookup, ProcessCounts, Thresholds};

use super::config::{Config, Rule};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    filter::{Filter, matches},
    model::FileType,
};

/// The result of the rules for a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Finding to report.
    Reported,
    /// An `[[ignore]]` rule matches.
    Ignored,
    /// Severity below the configured one.
    BelowSeverity,
}

/// The rules for findings.
#[derive(Clone, Debug)]
pub struct Rules {
    ignore: Vec<Rule>,
    severity: Vec<(Rule, Severity)>,
    least: Severity,
}

impl Rules {
    /// Creates the rules of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            ignore: config.ignore.clone(),
            severity: config.severity.clone(),
            least: config.watch.severity,
        }
    }

    /// Returns the minimum severity of findings to judge: a rule may raise the severity of a finding.
    #[must_use]
    pub fn least_judged(&self) -> Severity {
        let raises = self.severity.iter().any(|&(_, to)| to >= self.least);
        if raises { Severity::Info } else { self.least }
    }

    /// Judges a finding, and sets its severity by the first rule that matches.
    ///
    /// The result does not depend on earlier ones. If a reported finding becomes `Ignored` or `BelowSeverity`, the
    /// caller must report it as gone.
    pub fn judge(&self, finding: &mut Finding) -> Verdict {
        if self.ignore.iter().any(|rule| rule.matches_finding(finding)) {
            return Verdict::Ignored;
        }
        let mut rules = self.severity.iter();
        if let Some(&(_, severity)) = rules.find(|(rule, _)| rule.matches_finding(finding)) {
            finding.severity = severity;
        }
        if finding.severity < self.least {
            return Verdict::BelowSeverity;
        }
        Verdict::Reported
    }
}

impl Rule {
    /// Returns whether it matches a finding, by the path on the host or the one that the process sees.
    #[must_use]
    pub fn matches_finding(&self, finding: &Finding) -> bool {
        let paths = [&finding.file.path, &finding.file.process_path];
        let is_on_path = || {
            let mut paths = paths.iter().copied();
            paths.any(|path| matches(self.path.as_ref(), path.as_ref()))
        };
        (self.cause.is_empty() || self.cause.contains(&finding.cause))
            && is_on_path()
            && self.matches_process(&finding.process)
    }

    /// Returns whether its terms for processes match.
    #[must_use]
    pub fn matches_process(&self, process: &ProcessInfo) -> bool {
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
