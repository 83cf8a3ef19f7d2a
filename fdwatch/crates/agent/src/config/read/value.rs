//! A value of the file, with conversions that add an error if it is invalid.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml_edit::Value;

use super::diagnostics::{Diagnostics, FileKind, start};
use fdwatch_core::suggest::nearest;

/// Characters of a value that messages quote.
const MAX_QUOTED: usize = 80;

/// A value of the file and its key.
#[derive(Clone, Copy)]
pub(super) struct ConfigValue<'a> {
    key: &'a str,
    value: &'a Value,
    diagnostics: &'a Diagnostics,
}

impl<'a> ConfigValue<'a> {
    pub(super) const fn new(key: &'a str, value: &'a Value, diagnostics: &'a Diagnostics) -> Self {
        Self {
            key,
            value,
            diagnostics,
        }
    }

    /// Returns its position.
    pub(super) fn at(&self) -> usize {
        start(self.value.span())
    }

    /// Adds an error about it.
    pub(super) fn reject<T>(&self, reason: impl Display) -> Option<T> {
        self.diagnostics
            .error(self.at(), format!("{}: {reason}", self.key));
        None
    }

    /// Adds a file to check.
    pub(super) fn add_file(&self, kind: FileKind, path: PathBuf) {
        self.diagnostics.file(self.at(), kind, path);
    }

    pub(super) fn warn(&self, reason: impl Display) {
        self.diagnostics
            .warn(self.at(), format!("{}: {reason}", self.key));
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        let is = match self.value {
            Value::String(_) => "a string",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::InlineTable(_) => "a table",
        };
        self.reject(format!("must be {wanted}, not {is}"))
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value.as_bool();
        value.or_else(|| self.wrong_type("true or false"))
    }

    pub(super) fn is_false(&self) -> bool {
        self.value.as_bool() == Some(false)
    }

    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    /// Returns a string that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value.as_str() {
            None => self.wrong_type("a string in quotes"),
            Some("") => self.reject("empty string: remove the line to use the default"),
            Some(text) if text.contains('\0') => self.reject("contains a NUL character"),
            Some(text) => Some(text),
        }
    }

    /// Returns a string that may be empty.
    pub(super) fn argument(&self) -> Option<&'a str> {
        match self.value.as_str() {
            Some("") => Some(""),
            _ => self.text(),
        }
    }

    /// Returns one string, or the elements of a list that is not empty.
    pub(super) fn texts(&self) -> Option<Vec<ConfigValue<'a>>> {
        let values = match self.value {
            Value::String(_) => vec![*self],
            Value::Array(values) if values.is_empty() => {
                return self.reject("empty list: remove the line to use the default");
            }
            Value::Array(_) => self.elements(),
            _ => return self.wrong_type("a string in quotes or a list of strings"),
        };
        Some(values)
    }

    /// Returns all strings in it, valid or not.
    pub(super) fn raw_texts(&self) -> impl Iterator<Item = &'a str> {
        let values = self.value.as_array().into_iter().flatten();
        self.value
            .as_str()
            .into_iter()
            .chain(values.filter_map(Value::as_str))
    }

    /// Returns the elements of a list, which may be empty.
    pub(super) fn list(&self) -> Option<Vec<ConfigValue<'a>>> {
        match self.value {
            Value::Array(_) => Some(self.elements()),
            _ => self.wrong_type("a list of strings"),
        }
    }

    fn elements(&self) -> Vec<ConfigValue<'a>> {
        let values = self.value.as_array().into_iter().flatten();
        values.map(|value| ConfigValue { value, ..*self }).collect()
    }

    pub(super) fn integer(&self, within: RangeInclusive<u64>) -> Option<u64> {
        let Some(number) = self.value.as_integer() else {
            return self.wrong_type("an integer");
        };
        let found = u64::try_from(number).ok();
        found.filter(|number| within.contains(number)).or_else(|| {
            self.reject(format!(
                "must be from {} to {}",
                within.start(),
                within.end()
            ))
        })
    }

    /// Returns a nice value.
    pub(super) fn nice(&self) -> Option<i32> {
        let Some(number) = self.value.as_integer() else {
            return self.wrong_type("an integer");
        };
        let nice = i32::try_from(number).ok();
        nice.filter(|nice| (-20..=19).contains(nice))
            .or_else(|| self.reject("must be from -20 to 19"))
    }

    /// Returns a number, integer or not.
    pub(super) fn number(&self) -> Option<f64> {
        let integer = self.value.as_integer().map(|number| number as f64);
        integer
            .or_else(|| self.value.as_float())
            .or_else(|| self.wrong_type("a number"))
    }

    /// Returns one of the given choices.
    pub(super) fn choice<T: Copy>(
        &self,
        all: impl IntoIterator<Item = (&'static str, T)>,
    ) -> Option<T> {
        let text = self.text()?;
        let all: Vec<_> = all.into_iter().collect();
        if let Some(&(_, found)) = all.iter().find(|&&(name, _)| name == text) {
            return Some(found);
        }
        let names: Vec<_> = all.iter().map(|&(name, _)| name).collect();
        let near = nearest(names.iter().map(|&name| (name, name)), text);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        self.reject(format!(
            "invalid value {}: must be one of {}{hint}",
            quote(text),
            names.join(", ")
        ))
    }

    pub(super) fn duration(&self, within: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(text) = self.value.as_str() else {
            return self.wrong_type("a duration in quotes, such as \"30s\" or \"7d\"");
        };
        match fdwatch_options::parse::duration(text) {
            Err(reason) => self.reject(format!("{}: {reason}", quote(text))),
            Ok(duration) if within.contains(&duration) => Some(duration),
            Ok(_) => self.reject(format!(
                "must be from {} to {}",
                shown(*within.start()),
                shown(*within.end())
            )),
        }
    }

    /// Returns a size in bytes, within limits in the notation of the file.
    pub(super) fn size(&self, [least, most]: [&str; 2]) -> Option<u64> {
        let bytes = match self.value {
            Value::String(text) => fdwatch_options::parse::size(text.value()),
            Value::Integer(number) => u64::try_from(*number.value()).ok(),
            _ => return self.wrong_type("a size in quotes, such as \"64M\" or \"1G\""),
        };
        let Some(bytes) = bytes else {
            return self.reject("must be a size such as \"512K\", \"64M\" or \"1G\"");
        };
        let is_within = fdwatch_options::parse::size(least).is_none_or(|least| bytes >= least)
            && fdwatch_options::parse::size(most).is_none_or(|most| bytes <= most);
        if !is_within {
            return self.reject(format!("must be from {least} to {most}"));
        }
        Some(bytes)
    }
}

/// Quotes a value for a message.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        None => format!("\"{text}\""),
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
    }
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}
