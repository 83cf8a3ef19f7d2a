//! Attributes as OTLP has them, bounded: names and paths come from strangers.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use fdwatch_host::proc::hostname;
use fdwatch_render::escape::{Escaped, shorten};

/// Bytes of a text, at the most.
const MAX_TEXT: usize = 4096;

/// Elements of a list, at the most.
pub(super) const MAX_ELEMENTS: usize = 64;

/// The attributes of one thing.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    list: Vec<KeyValue>,
    /// Values that were cut, or could not be taken as they were.
    changed: i64,
}

impl Attributes {
    /// Adds a value, if there is one.
    pub(super) fn add(&mut self, key: &str, value: impl Into<Option<Value>>) {
        if let Some(value) = value.into() {
            self.list.push(pair(key, value));
        }
    }

    /// Adds a name that a stranger has chosen: what is not printable is escaped.
    pub(super) fn name(&mut self, key: &str, name: Option<&[u8]>) {
        if let Some(name) = name {
            let value = self.bounded(name);
            self.add(key, Value::StringValue(value));
        }
    }

    /// Adds several.
    pub(super) fn names(&mut self, key: &str, names: Option<&[Vec<u8>]>) {
        if let Some(names) = names {
            let told = names.iter().take(MAX_ELEMENTS);
            let told: Vec<_> = told
                .map(|name| Value::StringValue(self.bounded(name)))
                .collect();
            self.list_of(key, names.len(), told);
        }
    }

    /// Adds numbers.
    pub(super) fn numbers(&mut self, key: &str, numbers: impl ExactSizeIterator<Item = u32>) {
        let all = numbers.len();
        let told = numbers.take(MAX_ELEMENTS);
        let told = told.map(|it| Value::IntValue(it.into())).collect();
        self.list_of(key, all, told);
    }

    fn list_of(&mut self, key: &str, all: usize, told: Vec<Value>) {
        self.changed += i64::from(told.len() < all);
        let values = told.into_iter().map(|it| AnyValue { value: Some(it) });
        let values = values.collect();
        self.add(key, Value::ArrayValue(ArrayValue { values }));
    }

    fn bounded(&mut self, name: &[u8]) -> String {
        let mut text = Escaped(&name[..name.len().min(MAX_TEXT + 1)]).to_string();
        shorten(&mut text, MAX_TEXT);
        self.changed += i64::from(text.as_bytes() != name);
        text
    }

    /// All of them, and how many were changed, if any were.
    pub(super) fn done(mut self) -> Vec<KeyValue> {
        if self.changed > 0 {
            self.add("fdwatch.values_changed", Value::IntValue(self.changed));
        }
        self.list
    }
}

/// One attribute.
pub(super) fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A text.
pub(super) fn text(text: impl Into<String>) -> Value {
    Value::StringValue(text.into())
}

/// Who tells: this fdwatch on this host.
pub(super) fn resource() -> Resource {
    let host = hostname();
    let attributes = vec![
        pair("service.name", text("fdwatch")),
        pair("service.version", text(env!("CARGO_PKG_VERSION"))),
        pair("service.instance.id", text(host.as_str())),
        pair("host.name", text(host.as_str())),
        pair("os.type", text("linux")),
    ];
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// The part of it that tells.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "fdwatch.agent".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
