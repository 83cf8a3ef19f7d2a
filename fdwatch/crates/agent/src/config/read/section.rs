//! A table of the file: what is asked for is taken from it, and what no one asked for is a mistake.

use toml_edit::{Item, TableLike, Value};

use super::{
    diagnostics::{Diagnostics, start},
    value::ConfigValue,
};
use fdwatch_core::suggest::nearest;

/// See the module. One that is not in the file has no keys.
pub(super) struct Section<'a> {
    table: Option<&'a dyn TableLike>,
    /// Its name, with those of the tables it is in; empty for the file itself.
    name: String,
    /// Where it begins.
    pub(super) at: usize,
    /// Whether there may be several of it.
    is_one_of_many: bool,
    known: Vec<&'static str>,
    pub(super) notes: &'a Diagnostics,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a dyn TableLike, notes: &'a Diagnostics) -> Self {
        Self {
            table: Some(table),
            name: String::new(),
            at: 0,
            is_one_of_many: false,
            known: Vec::new(),
            notes,
        }
    }

    /// Whether it is in the file.
    pub(super) const fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Its name as it is written in the file.
    pub(super) fn title(&self) -> String {
        if self.is_one_of_many {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }

    /// Diagnostics a mistake in it as a whole.
    pub(super) fn refuse(&self, message: String) {
        self.notes.mistake(self.at, message);
    }

    /// Diagnostics a mistake in what a key of it says.
    pub(super) fn refuse_key(&self, key: &str, message: String) {
        self.notes.mistake(self.key_at(key), message);
    }

    /// Whether there is such a key, whatever it is.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn ask(&mut self, key: &'static str) -> Option<&'a Item> {
        self.known.push(key);
        let item = self.table.and_then(|table| table.get(key));
        #[cfg(test)]
        {
            let asked = (self.path(key), item.is_some());
            self.notes.asked.borrow_mut().push(asked);
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

    /// Where a key of it is.
    fn key_at(&self, key: &str) -> usize {
        let table = self.table.and_then(|table| table.get_key_value(key));
        let span = table.and_then(|(key, item)| key.span().or_else(|| item.span()));
        span.map_or(self.at, |span| span.start)
    }

    /// The value of a key, if it is there.
    pub(super) fn value(&mut self, key: &'static str) -> Option<ConfigValue<'a>> {
        match self.ask(key)? {
            Item::Value(value) => Some(ConfigValue::new(key, value, self.notes)),
            Item::Table(_) | Item::ArrayOfTables(_) | Item::None => {
                let message = format!("{key} is a key with a value, and no section");
                self.refuse_key(key, message);
                None
            }
        }
    }

    /// The value of a key that must be there.
    pub(super) fn needed(&mut self, key: &'static str, example: &str) -> Option<ConfigValue<'a>> {
        let is_missing = self.is_there() && !self.has(key);
        let value = self.value(key);
        if is_missing {
            self.refuse(format!(
                "{} says no {key}: add a line such as {key} = {example}",
                self.title()
            ));
        }
        value
    }

    /// The table in it that is called so.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let item = self.ask(key);
        let table = item.and_then(Item::as_table_like);
        if item.is_some() && table.is_none() {
            let name = self.path(key);
            let message = format!("there can be but one section {key}: write [{name}]");
            self.refuse_key(key, message);
        }
        self.within(key, table, item.map_or(0, |item| start(item.span())), false)
    }

    /// The tables in it that are called so.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let tables: Vec<(&dyn TableLike, usize)> = match self.ask(key) {
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
                let message = format!("there can be several {key}: write [[{name}]] above each");
                self.refuse_key(key, message);
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
        is_one_of_many: bool,
    ) -> Section<'a> {
        Section {
            table,
            name: self.path(key),
            at,
            is_one_of_many,
            known: Vec::new(),
            notes: self.notes,
        }
    }

    /// All keys of it, whatever they are called, each with its value.
    pub(super) fn values(&mut self) -> Vec<(&'a str, ConfigValue<'a>)> {
        let Some(table) = self.table.take() else {
            return Vec::new();
        };
        let values = table.iter().filter_map(|(key, item)| match item {
            Item::Value(value) => Some((key, ConfigValue::new(key, value, self.notes))),
            _ => {
                let message = format!("{key} must have a value in quotes");
                self.notes.mistake(start(item.span()), message);
                None
            }
        });
        values.collect()
    }

    /// Refuses the keys that no one asked for.
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
            let advice = match nearest(known, key) {
                Some(known) if self.name.is_empty() || is_section => {
                    format!("is [{}] meant?", self.path(known))
                }
                Some(known) => format!("is {known} meant?"),
                None => format!("there are {}", self.known.join(", ")),
            };
            let message = format!("there is no {what}{place}: {advice}");
            self.refuse_key(key, message);
        }
    }
}
