//! The options that say which findings are wanted: those of several commands, and of the agent's API.

use clap::Args;
use globset::Glob;

use fdwatch_core::{diagnose::Severity, filter::Filter, model::FileType};

use crate::parse;

/// Which findings are wanted.
#[derive(Debug, Args)]
pub struct Filters {
    /// Only of this process (may be repeated)
    #[arg(long, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Only of processes whose name matches this pattern (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Only of processes whose program's path matches this pattern, in which * also matches / (may be
    /// repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub exe: Vec<Glob>,
    /// Only of processes whose control group's path matches this pattern, in which * also matches /
    /// (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub cgroup: Vec<Glob>,
    /// Only of processes of a unit of systemd that matches this pattern, such as nginx.service or
    /// *.scope (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub unit: Vec<Glob>,
    /// Only of processes of a container whose id begins so or matches this pattern (may be repeated)
    #[arg(long, value_name = "ID", value_parser = parse::container_id)]
    pub container: Vec<Glob>,
    /// Only of files of this type (may be repeated); implies --all for types but regular
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub types: Vec<FileType>,
    /// Only of files whose path matches this pattern, in which * also matches / (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub path: Vec<Glob>,
    /// Only of this many descriptors or more [default: 2, or 1 of a deleted file]
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub min_fds: Option<usize>,
    /// Only of this severity or more [default: warning, or info with --all]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub severity: Option<Severity>,
    /// Of all types of files, not only regular ones, and of all severities
    #[arg(long)]
    pub all: bool,
}

impl Filters {
    /// Whether files of other types than regular ones are wanted.
    #[must_use]
    pub fn all_types(&self) -> bool {
        self.all || self.types.iter().any(|&of| of != FileType::Regular)
    }

    /// The least severity that is wanted.
    #[must_use]
    pub fn least_severity(&self) -> Severity {
        let usual = if self.all_types() {
            Severity::Info
        } else {
            Severity::Warning
        };
        self.severity.unwrap_or(usual)
    }

    /// All that is said, as the names of the options and their values.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let mut words = Vec::new();
        words.extend(self.pid.iter().map(|pid| ("pid", pid.to_string())));
        for (name, globs) in [
            ("comm", &self.comm),
            ("exe", &self.exe),
            ("cgroup", &self.cgroup),
            ("unit", &self.unit),
            ("container", &self.container),
            ("path", &self.path),
        ] {
            words.extend(globs.iter().map(|glob| (name, glob.glob().to_owned())));
        }
        words.extend(self.types.iter().map(|of| ("type", of.name().to_owned())));
        words.extend(self.min_fds.map(|least| ("min-fds", least.to_string())));
        let severity = self.severity.map(|least| least.name().to_owned());
        words.extend(severity.map(|least| ("severity", least)));
        if self.all {
            words.push(("all", "true".to_owned()));
        }
        words
    }

    /// Returns the options as parameters of a query, each preceded by `&`.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.words() {
            query.push('&');
            let mut pair = form_urlencoded::Serializer::new(String::new());
            pair.append_pair(name, &value);
            query.push_str(&pair.finish());
        }
        query
    }

    /// The filter.
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
            severity: self.least_severity(),
        })
    }
}
