//! A table of the file. Keys that are never read are errors.

use toml_edit::{Item, TableLike, Value};

use super::{
    diagnostics::{Diagnostics, start},
    value::ConfigValue,
};
use fdwatch_core::suggest::nearest;

/// A table of the file. One that is missing has no keys.
pub(super) struct Section<'a> {
    table: Option<&'a dyn TableLike>,
    /// Its name with those of its parents; empty for the file itself.
    name: String,
    /// Its position.
    pub(super) at: usize,
    /// Whether it belongs to an array of tables.
    is_array_entry: bool,
    known: Vec<&'static str>,
    pub(super) diagnostics: &'a Diagnostics,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a dyn TableLike, diagnostics: &'a Diagnostics) -> Self {
        Self {
            table: Some(table),
            name: String::new(),
            at: 0,
            is_array_entry: false,
            known: Vec::new(),
            diagnostics,
        }
    }

    /// Returns whether it is in the file.
    pub(super) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Returns its name as written in the file.
    pub(super) fn title(&self) -> String {
        if self.is_array_entry {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }

    /// Adds an error about the whole table.
    pub(super) fn reject(&self, message: String) {
        self.diagnostics.error(self.at, message);
    }

    /// Adds an error about a key.
    pub(super) fn reject_key(&self, key: &str, message: String) {
        self.diagnostics.error(self.key_at(key), message);
    }

    /// Returns whether there is such a key, of any type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.known.push(key);
        let item = self.table.and_then(|table| table.get(key));
        #[cfg(test)]
        {
            let read = (self.path(key), item.is_some());
            self.diagnostics.read_keys.borrow_mut().push(read);
        }
        item
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// Returns the position of a key.
    fn key_at(&self, key: &str) -> usize {
        let table = self.table.and_then(|table| table.get_key_value(key));
        let span = table.and_then(|(key, item)| key.span().or_else(|| item.span()));
        span.map_or(self.at, |span| span.start)
    }

    /// Returns the value of a key, if present.
    pub(super) fn value(&mut self, key: &'static str) -> Option<ConfigValue<'a>> {
        match self.item(key)? {
            Item::Value(value) => Some(ConfigValue::new(key, value, self.diagnostics)),
            Item::Table(_) | Item::ArrayOfTables(_) | Item::None => {
                let message = format!("{key} must be a value, not a section");
                self.reject_key(key, message);
                None
            }
        }
    }

    /// Returns the value of a required key.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<ConfigValue<'a>> {
        let is_missing = self.is_present() && !self.has(key);
        let value = self.value(key);
        if is_missing {
            self.reject(format!(
                "{} has no {key}: add a line such as {key} = {example}",
                self.title()
            ));
        }
        value
    }

    /// Returns the table `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let item = self.item(key);
        let table = item.and_then(Item::as_table_like);
        if item.is_some() && table.is_none() {
            let name = self.path(key);
            let message = format!("{key} must be one section: write [{name}]");
            self.reject_key(key, message);
        }
        self.within(key, table, item.map_or(0, |item| start(item.span())), false)
    }

    /// Returns the array of tables `key`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let tables: Vec<(&dyn TableLike, usize)> = match self.item(key) {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => {
                let tables = tables.iter();
                tables
                    .map(|table| (table as &dyn TableLike, start(table.span())))
                    .collect()
            }
            Some(Item::Value(Value::Array(values)))
                if values.iter().all(Value::is_inline_table) =>
            {
                let tables = values.iter().filter_map(Value::as_inline_table);
                tables
                    .map(|table| (table as &dyn TableLike, start(table.span())))
                    .collect()
            }
            Some(_) => {
                let name = self.path(key);
                let message =
                    format!("{key} must be an array of sections: write [[{name}]] above each");
                self.reject_key(key, message);
                Vec::new()
            }
        };
        let sections = tables.into_iter();
        sections
            .map(|(table, at)| self.within(key, Some(table), at, true))
            .collect()
    }

    fn within(
        &self,
        key: &str,
        table: Option<&'a dyn TableLike>,
        at: usize,
        is_array_entry: bool,
    ) -> Section<'a> {
        Section {
            table,
            name: self.path(key),
            at,
            is_array_entry,
            known: Vec::new(),
            diagnostics: self.diagnostics,
        }
    }

    /// Returns all keys with their values, whatever their names.
    pub(super) fn values(&mut self) -> Vec<(&'a str, ConfigValue<'a>)> {
        let Some(table) = self.table.take() else {
            return Vec::new();
        };
        let values = table.iter().filter_map(|(key, item)| match item {
            Item::Value(value) => Some((key, ConfigValue::new(key, value, self.diagnostics))),
            _ => {
                let message = format!("{key} must be a string in quotes");
                self.diagnostics.error(start(item.span()), message);
                None
            }
        });
        values.collect()
    }

    /// Adds errors for the keys that were not read.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, item) in table.iter() {
            if self.known.contains(&key) {
                continue;
            }
            let known = self.known.iter().map(|&known| (known, known));
            let is_section = !item.is_value();
            let (what, place) = match (is_section, self.name.is_empty()) {
                (true, _) => (format!("section [{}]", self.path(key)), String::new()),
                (false, true) => (format!("key {key}"), " outside of all sections".to_owned()),
                (false, false) => (format!("key {key}"), format!(" in {}", self.title())),
            };
            let hint = match nearest(known, key) {
                Some(known) if self.name.is_empty() || is_section => {
                    format!("did you mean [{}]?", self.path(known))
                }
                Some(known) => format!("did you mean {known}?"),
                None => format!("known: {}", self.known.join(", ")),
            };
            let message = format!("unknown {what}{place}: {hint}");
            self.reject_key(key, message);
        }
    }
}
