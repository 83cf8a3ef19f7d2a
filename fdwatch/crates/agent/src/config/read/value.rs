//! A value of the file: it is asked to be of a type, and says what is wrong if it is not.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml_edit::Value;

use super::diagnostics::{Diagnostics, FileKind, start};
use fdwatch_core::suggest::nearest;

/// Characters of a value that are quoted.
const MAX_QUOTED: usize = 80;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct ConfigValue<'a> {
    key: &'a str,
    value: &'a Value,
    notes: &'a Diagnostics,
}

impl<'a> ConfigValue<'a> {
    pub(super) const fn new(key: &'a str, value: &'a Value, notes: &'a Diagnostics) -> Self {
        Self { key, value, notes }
    }

    /// Where it is.
    pub(super) fn at(&self) -> usize {
        start(self.value.span())
    }

    /// Diagnostics that it cannot be so.
    pub(super) fn refuse<T>(&self, reason: impl Display) -> Option<T> {
        self.notes
            .mistake(self.at(), format!("{}: {reason}", self.key));
        None
    }

    /// Diagnostics that a file must be looked at.
    pub(super) fn note_file(&self, kind: FileKind, path: PathBuf) {
        self.notes.file(self.at(), kind, path);
    }

    pub(super) fn warn(&self, reason: impl Display) {
        self.notes
            .warn(self.at(), format!("{}: {reason}", self.key));
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        let is = match self.value {
            Value::String(_) => "text",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::InlineTable(_) => "a table",
        };
        self.refuse(format!("must be {wanted}, and is {is}"))
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

    /// Text, which has something in it.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value.as_str() {
            None => self.wrong_type("text in quotes"),
            Some("") => self.refuse("is empty: take the line out if nothing is meant"),
            Some(text) if text.contains('\0') => self.refuse("there is a NUL in it"),
            Some(text) => Some(text),
        }
    }

    /// Text, which may be empty.
    pub(super) fn argument(&self) -> Option<&'a str> {
        match self.value.as_str() {
            Some("") => Some(""),
            _ => self.text(),
        }
    }

    /// One text, or a list of them that is not empty; each by itself.
    pub(super) fn texts(&self) -> Option<Vec<ConfigValue<'a>>> {
        let values = match self.value {
            Value::String(_) => vec![*self],
            Value::Array(values) if values.is_empty() => {
                return self.refuse("the list is empty: take the line out if nothing is meant");
            }
            Value::Array(_) => self.each(),
            _ => return self.wrong_type("text in quotes, or a list of such"),
        };
        Some(values)
    }

    /// What there is of text in it, whatever else is wrong with it.
    pub(super) fn raw_texts(&self) -> impl Iterator<Item = &'a str> {
        let values = self.value.as_array().into_iter().flatten();
        self.value
            .as_str()
            .into_iter()
            .chain(values.filter_map(Value::as_str))
    }

    /// A list, which may be empty; each by itself.
    pub(super) fn list(&self) -> Option<Vec<ConfigValue<'a>>> {
        match self.value {
            Value::Array(_) => Some(self.each()),
            _ => self.wrong_type("a list of text in quotes"),
        }
    }

    fn each(&self) -> Vec<ConfigValue<'a>> {
        let values = self.value.as_array().into_iter().flatten();
        values.map(|value| ConfigValue { value, ..*self }).collect()
    }

    pub(super) fn integer(&self, within: RangeInclusive<u64>) -> Option<u64> {
        let Some(number) = self.value.as_integer() else {
            return self.wrong_type("a whole number");
        };
        let found = u64::try_from(number).ok();
        found.filter(|number| within.contains(number)).or_else(|| {
            self.refuse(format!(
                "must be from {} to {}",
                within.start(),
                within.end()
            ))
        })
    }

    /// A number, of which fractions are taken.
    pub(super) fn number(&self) -> Option<f64> {
        let integer = self.value.as_integer().map(|number| number as f64);
        integer
            .or_else(|| self.value.as_float())
            .or_else(|| self.wrong_type("a number"))
    }

    /// One of a few words.
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
        let advice = near.map_or_else(String::new, |near| format!(": is {near} meant?"));
        self.refuse(format!(
            "{} is none of {}{advice}",
            quote(text),
            names.join(", ")
        ))
    }

    pub(super) fn duration(&self, within: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(text) = self.value.as_str() else {
            return self.wrong_type("a time in quotes, such as \"30s\" or \"7d\"");
        };
        match fdwatch_options::parse::duration(text) {
            Err(reason) => self.refuse(format!("{}: {reason}", quote(text))),
            Ok(duration) if within.contains(&duration) => Some(duration),
            Ok(_) => self.refuse(format!(
                "must be from {} to {}",
                shown(*within.start()),
                shown(*within.end())
            )),
        }
    }

    /// A number of bytes; the limits as they are written.
    pub(super) fn size(&self, [least, most]: [&str; 2]) -> Option<u64> {
        let bytes = match self.value {
            Value::String(text) => fdwatch_options::parse::size(text.value()),
            Value::Integer(number) => u64::try_from(*number.value()).ok(),
            _ => return self.wrong_type("a size in quotes, such as \"64M\" or \"1G\""),
        };
        let Some(bytes) = bytes else {
            return self.refuse("not a size such as \"512K\", \"64M\" or \"1G\"");
        };
        let is_within = fdwatch_options::parse::size(least).is_none_or(|least| bytes >= least)
            && fdwatch_options::parse::size(most).is_none_or(|most| bytes <= most);
        if !is_within {
            return self.refuse(format!("must be from {least} to {most}"));
        }
        Some(bytes)
    }
}

/// What is quoted of a value.
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
