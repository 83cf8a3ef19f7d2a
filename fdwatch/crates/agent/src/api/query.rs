//! The query parameters of a request, which have the names of command line options.

use clap::Parser;

use fdwatch_core::filter::Filter;
use fdwatch_options::Filters;

/// Limit of parameters.
const MAX_PARAMETERS: usize = 64;

/// The format of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// A JSON document, or server-sent events.
    #[default]
    Json,
    /// One JSON object per line.
    Lines,
    /// Text for people.
    Text,
}

/// The parsed parameters.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) shape: Shape,
    /// Whether to include findings that are active already.
    pub(super) current: bool,
    /// Limit of results.
    pub(super) limit: Option<usize>,
    /// The descriptor or path to explain.
    pub(super) target: Option<String>,
    pub(super) filter: Filter,
}

#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct FilterOptions {
    #[command(flatten)]
    filters: Filters,
}

/// Parses a query that may contain the parameters `known` and, with `filters`, the filter options of the command line.
///
/// # Errors
///
/// If there is another parameter or an invalid value: the reason.
pub(super) fn read(query: Option<&str>, known: &[&str], filters: bool) -> Result<Query, String> {
    let mut read = Query {
        shape: Shape::default(),
        current: false,
        limit: None,
        target: None,
        filter: Filter::default(),
    };
    let mut options = Vec::new();
    for (count, (name, value)) in form_urlencoded::parse(query.unwrap_or("").as_bytes()).enumerate()
    {
        if count >= MAX_PARAMETERS {
            return Err(format!("more than {MAX_PARAMETERS} parameters"));
        }
        let invalid = || format!("invalid value '{value}' for {name}");
        if known.contains(&&*name) {
            match &*name {
                "format" => {
                    read.shape = match &*value {
                        "json" => Shape::Json,
                        "lines" => Shape::Lines,
                        "text" => Shape::Text,
                        _ => return Err(invalid()),
                    }
                }
                "current" => read.current = flag(&value).ok_or_else(invalid)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|&limit| limit > 0);
                    read.limit = Some(limit.ok_or_else(invalid)?);
                }
                _ => read.target = Some(value.into_owned()),
            }
        } else if !filters {
            return Err(format!("unknown parameter '{name}'"));
        } else if name == "all" {
            if flag(&value).ok_or_else(invalid)? {
                options.push("--all".to_owned());
            }
        } else {
            options.push(format!("--{name}={value}"));
        }
    }
    if filters {
        let parsed = FilterOptions::try_parse_from(options).map_err(|error| first_line(&error))?;
        let filter = parsed.filters.filter();
        read.filter = filter.map_err(|error| error.to_string())?;
    }
    Ok(read)
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" | "" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").replace("--", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fdwatch_core::diagnose::Severity;

    fn options(query: &str) -> Result<Query, String> {
        read(Some(query), &["format", "current", "limit"], true)
    }

    #[test]
    fn parameters_match_the_command_line() {
        let query = options("pid=7&pid=8&comm=a*&severity=critical&format=text&limit=3").unwrap();
        assert_eq!(query.filter.pids, [7, 8]);
        assert_eq!(query.filter.severity, Severity::Critical);
        assert!(query.filter.comm.is_some_and(|globs| globs.is_match("abc")));
        assert_eq!((query.shape, query.limit), (Shape::Text, Some(3)));
        assert_eq!(options("").unwrap().filter.severity, Severity::Warning);
        assert_eq!(options("all=true").unwrap().filter.severity, Severity::Info);
    }

    #[test]
    fn invalid_parameters_are_rejected() {
        for (query, reason) in [
            ("nonsense=1", "unexpected argument"),
            ("pid=x", "invalid value"),
            ("comm=%5B", "invalid value"),
            ("format=xml", "format"),
            ("limit=0", "limit"),
            ("current=maybe", "current"),
            ("help=", "unexpected argument"),
            ("=1", "unexpected"),
        ] {
            let error = options(query).unwrap_err();
            assert!(error.contains(reason), "{query}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(options(&"pid=1&".repeat(100)).is_err());
    }
}
