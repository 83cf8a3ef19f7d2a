//! Attributes in OTLP. Names and paths are untrusted: escaped and bounded.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use fdwatch_host::proc::hostname;
use fdwatch_render::escape::{Escaped, shorten};

/// Length limit of a text: bytes.
const MAX_TEXT: usize = 4096;

/// Length limit of a list.
pub(super) const MAX_ELEMENTS: usize = 64;

/// Attributes of a record.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    list: Vec<KeyValue>,
    /// Values that were shortened or escaped.
    changed: i64,
}

impl Attributes {
    /// Adds a value, if there is one.
    pub(super) fn add(&mut self, key: &str, value: impl Into<Option<Value>>) {
        if let Some(value) = value.into() {
            self.list.push(pair(key, value));
        }
    }

    /// Adds an untrusted name, escaped.
    pub(super) fn name(&mut self, key: &str, name: Option<&[u8]>) {
        if let Some(name) = name {
            let value = self.bounded(name);
            self.add(key, Value::StringValue(value));
        }
    }

    /// Adds a list of untrusted names.
    pub(super) fn names(&mut self, key: &str, names: Option<&[Vec<u8>]>) {
        if let Some(names) = names {
            let values = names.iter().take(MAX_ELEMENTS);
            let values: Vec<_> = values
                .map(|name| Value::StringValue(self.bounded(name)))
                .collect();
            self.list_of(key, names.len(), values);
        }
    }

    /// Adds a list of numbers.
    pub(super) fn numbers(&mut self, key: &str, numbers: impl ExactSizeIterator<Item = u32>) {
        let all = numbers.len();
        let values = numbers.take(MAX_ELEMENTS);
        let values = values.map(|it| Value::IntValue(it.into())).collect();
        self.list_of(key, all, values);
    }

    fn list_of(&mut self, key: &str, all: usize, values: Vec<Value>) {
        self.changed += i64::from(values.len() < all);
        let values = values.into_iter();
        let values = values.map(|it| AnyValue { value: Some(it) }).collect();
        self.add(key, Value::ArrayValue(ArrayValue { values }));
    }

    fn bounded(&mut self, name: &[u8]) -> String {
        let mut text = Escaped(&name[..name.len().min(MAX_TEXT + 1)]).to_string();
        shorten(&mut text, MAX_TEXT);
        self.changed += i64::from(text.as_bytes() != name);
        text
    }

    /// Returns the attributes, with the number of changed values if there are any.
    pub(super) fn done(mut self) -> Vec<KeyValue> {
        if self.changed > 0 {
            self.add("fdwatch.values_changed", Value::IntValue(self.changed));
        }
        self.list
    }
}

/// Creates an attribute.
pub(super) fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Creates a text value.
pub(super) fn text(text: impl Into<String>) -> Value {
    Value::StringValue(text.into())
}

/// Describes the source: this fdwatch on this host.
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

/// Describes the component of fdwatch.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "fdwatch.agent".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
