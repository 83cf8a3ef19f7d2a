//! Filters of findings: options of several commands, and parameters of the agent's API.

use clap::Args;
use globset::Glob;

use fdwatch_core::{diagnose::Severity, filter::Filter, model::FileType};

use crate::parse;

/// Heading of the filters in the help.
const HEADING: &str = "Filters";

/// Filters of findings. Values of one filter are alternatives; different filters must all match.
#[derive(Debug, Args)]
pub struct Filters {
    /// Only this process (repeatable)
    #[arg(long, help_heading = HEADING, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Only processes with a matching name (repeatable)
    #[arg(long, help_heading = HEADING, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Only processes with a matching program path (repeatable); * also matches /
    #[arg(long, help_heading = HEADING, value_name = "GLOB", hide_short_help = true, value_parser = parse::glob)]
    pub exe: Vec<Glob>,
    /// Only processes with a matching cgroup path (repeatable); * also matches /
    #[arg(long, help_heading = HEADING, value_name = "GLOB", hide_short_help = true, value_parser = parse::glob)]
    pub cgroup: Vec<Glob>,
    /// Only processes of a matching systemd unit, such as nginx.service or *.scope (repeatable)
    #[arg(long, help_heading = HEADING, value_name = "GLOB", hide_short_help = true, value_parser = parse::glob)]
    pub unit: Vec<Glob>,
    /// Only processes of a container whose ID starts with or matches this (repeatable)
    #[arg(long, help_heading = HEADING, value_name = "ID", hide_short_help = true, value_parser = parse::container_id)]
    pub container: Vec<Glob>,
    /// Only files of this type (repeatable); types other than regular imply --all
    #[arg(long = "type", help_heading = HEADING, value_name = "TYPE", hide_short_help = true, value_enum)]
    pub types: Vec<FileType>,
    /// Only files with a matching path (repeatable)
    ///
    /// In the pattern, * also matches /.
    #[arg(long, help_heading = HEADING, value_name = "GLOB", value_parser = parse::glob)]
    pub path: Vec<Glob>,
    /// Only files on at least N descriptors [default: 2; 1 for a deleted file]
    #[arg(long, help_heading = HEADING, value_name = "N", hide_short_help = true, value_parser = parse::count)]
    pub min_fds: Option<usize>,
    /// Only findings of at least this severity
    ///
    /// Default: warning, or info with --all.
    #[arg(long, help_heading = HEADING, value_name = "LEVEL", value_enum)]
    pub severity: Option<Severity>,
    /// Include all file types and severities
    #[arg(long, help_heading = HEADING)]
    pub all: bool,
}

impl Filters {
    /// Returns whether any file type other than regular is selected.
    #[must_use]
    pub fn all_types(&self) -> bool {
        self.all || self.types.iter().any(|&kind| kind != FileType::Regular)
    }

    /// Returns the lowest severity that is selected.
    #[must_use]
    pub fn min_severity(&self) -> Severity {
        let default = if self.all_types() {
            Severity::Info
        } else {
            Severity::Warning
        };
        self.severity.unwrap_or(default)
    }

    /// Returns the filters that are set, as pairs of option name and value.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.pid.iter().map(|pid| ("pid", pid.to_string())));
        for (name, globs) in [
            ("comm", &self.comm),
            ("exe", &self.exe),
            ("cgroup", &self.cgroup),
            ("unit", &self.unit),
            ("container", &self.container),
            ("path", &self.path),
        ] {
            pairs.extend(globs.iter().map(|glob| (name, glob.glob().to_owned())));
        }
        pairs.extend(
            self.types
                .iter()
                .map(|kind| ("type", kind.name().to_owned())),
        );
        pairs.extend(self.min_fds.map(|minimum| ("min-fds", minimum.to_string())));
        let severity = self.severity.map(|minimum| minimum.name().to_owned());
        pairs.extend(severity.map(|minimum| ("severity", minimum)));
        if self.all {
            pairs.push(("all", "true".to_owned()));
        }
        pairs
    }

    /// Returns the filters as URL query parameters, each preceded by `&`.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.pairs() {
            add_parameter(&mut query, name, &value);
        }
        query
    }

    /// Compiles the filters.
    ///
    /// # Errors
    ///
    /// If the patterns are too large together.
    pub fn filter(&self) -> Result<Filter, globset::Error> {
        Ok(Filter {
            pids: self.pid.clone(),
            comm: parse::globs(&self.comm)?,
            exe: parse::globs(&self.exe)?,
            cgroup: parse::globs(&self.cgroup)?,
            unit: parse::globs(&self.unit)?,
            container: parse::globs(&self.container)?,
            types: self.types.clone(),
            path: parse::globs(&self.path)?,
            min_fds: self.min_fds,
            severity: self.min_severity(),
        })
    }
}

/// Appends `&name=value` to a query, percent-encoded.
pub fn add_parameter(query: &mut String, name: &str, value: &str) {
    query.push('&');
    let mut pair = form_urlencoded::Serializer::new(String::new());
    pair.append_pair(name, value);
    query.push_str(&pair.finish());
}
