//! What is asked for in a request's query: the same words as on the command line. What is answered is
//! not known here.

use clap::Parser;

use fdwatch_core::filter::Filter;
use fdwatch_options::Filters;

/// A query may have so many parts.
const MAX_PARTS: usize = 64;

/// How an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// As a document of JSON, or as server-sent events.
    #[default]
    Json,
    /// An object on each line.
    Lines,
    /// For a person.
    Text,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) shape: Shape,
    /// What is there already is wanted too.
    pub(super) current: bool,
    /// At most so many.
    pub(super) limit: Option<usize>,
    /// What is to be explained.
    pub(super) target: Option<String>,
    pub(super) filter: Filter,
}

#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct FilterWords {
    #[command(flatten)]
    filters: Filters,
}

/// Reads a query, in which only `known` words and, with `filters`, those of the command line's filters
/// may stand.
///
/// # Errors
///
/// If anything else stands there: why.
pub(super) fn read(query: Option<&str>, known: &[&str], filters: bool) -> Result<Query, String> {
    let mut read = Query {
        shape: Shape::default(),
        current: false,
        limit: None,
        target: None,
        filter: Filter::default(),
    };
    let mut words = Vec::new();
    for (count, (name, value)) in form_urlencoded::parse(query.unwrap_or("").as_bytes()).enumerate()
    {
        if count >= MAX_PARTS {
            return Err(format!("more than {MAX_PARTS} parameters"));
        }
        let bad = || format!("{name}: '{value}' is not one of its values");
        if known.contains(&&*name) {
            match &*name {
                "format" => {
                    read.shape = match &*value {
                        "json" => Shape::Json,
                        "lines" => Shape::Lines,
                        "text" => Shape::Text,
                        _ => return Err(bad()),
                    }
                }
                "current" => read.current = flag(&value).ok_or_else(bad)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|&limit| limit > 0);
                    read.limit = Some(limit.ok_or_else(bad)?);
                }
                _ => read.target = Some(value.into_owned()),
            }
        } else if !filters {
            return Err(format!("there is no parameter '{name}' here"));
        } else if name == "all" {
            if flag(&value).ok_or_else(bad)? {
                words.push("--all".to_owned());
            }
        } else {
            words.push(format!("--{name}={value}"));
        }
    }
    if filters {
        let parsed = FilterWords::try_parse_from(words).map_err(|error| first_line(&error))?;
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

    fn words(query: &str) -> Result<Query, String> {
        read(Some(query), &["format", "current", "limit"], true)
    }

    #[test]
    fn the_words_are_those_of_the_command_line() {
        let query = words("pid=7&pid=8&comm=a*&severity=critical&format=text&limit=3").unwrap();
        assert_eq!(query.filter.pids, [7, 8]);
        assert_eq!(query.filter.severity, Severity::Critical);
        assert!(query.filter.comm.is_some_and(|globs| globs.is_match("abc")));
        assert_eq!((query.shape, query.limit), (Shape::Text, Some(3)));
        assert_eq!(words("").unwrap().filter.severity, Severity::Warning);
        assert_eq!(words("all=true").unwrap().filter.severity, Severity::Info);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
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
            let error = words(query).unwrap_err();
            assert!(error.contains(reason), "{query}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(words(&"pid=1&".repeat(100)).is_err());
    }
}
