//! JSON Schema of everything in [`wire`](crate::wire): the files of `docs/schema`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    Key, Measure,
    wire::{
        Body, Budget, Call, Doctor, Dropped, Error, Explanation, Finding, Findings,
        FleetDuplicates, FleetHost, FleetMore, FleetShared, FleetSignature, Growth, Health,
        History, HistoryHour, Leak, Line, Lint, Loss, Object, Processes, Run, Started, Summary,
        Table, Text, Threshold, Version, Written,
    },
};

/// Dialect of the files.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// File of the definitions that others refer to.
const COMMON: &str = "common";

/// File of any line that a command writes.
const LINE: &str = "line";

/// Types that only responses of the agent's API have.
const ANSWERS: [&str; 7] = [
    Dropped::TYPE,
    Error::TYPE,
    Findings::TYPE,
    Health::TYPE,
    Processes::TYPE,
    Version::TYPE,
    Written::TYPE,
];

/// Returns the files of `docs/schema` by name: one for each type, `common` with the definitions
/// they share, and `line` for any line.
#[must_use]
pub fn files() -> BTreeMap<String, String> {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.meta_schema = None)
        .into_generator();
    let mut types = BTreeMap::new();
    // The description of an object is that of its body.
    let mut descriptions = BTreeMap::new();
    macro_rules! add {
        ($($form:ident<$body:ident>),*) => {$(
            generator.subschema_for::<$form<$body>>();
            types.insert($form::<$body>::schema_name(), $body::TYPE);
            let body = $body::json_schema(&mut generator);
            descriptions.insert($body::TYPE, body.get("description").cloned());
        )*};
    }
    add!(
        Line<Budget>,
        Line<Call>,
        Line<Explanation>,
        Line<Finding>,
        Line<Growth>,
        Line<Health>,
        Line<Leak>,
        Line<Loss>,
        Line<Run>,
        Line<Started>,
        Line<Summary>,
        Line<Table>,
        Line<Threshold>,
        Line<Written>,
        Object<Doctor>,
        Object<Dropped>,
        Object<Error>,
        Object<Findings>,
        Object<FleetDuplicates>,
        Object<FleetHost>,
        Object<FleetMore>,
        Object<FleetShared>,
        Object<FleetSignature>,
        Object<History>,
        Object<HistoryHour>,
        Object<Lint>,
        Object<Processes>,
        Object<Version>
    );
    let mut files = BTreeMap::new();
    let mut shared = Map::new();
    for (name, mut schema) in generator.take_definitions(true) {
        simplify(&mut schema);
        let kind = types.get(name.as_str());
        refer(&mut schema, &types, kind.is_none());
        let Some(kind) = kind else {
            shared.insert(name, schema);
            continue;
        };
        schema["$schema"] = DIALECT.into();
        schema["description"] = descriptions[kind].clone().unwrap_or_default();
        schema["properties"]["schema"] = json!({"const": 1});
        schema["properties"]["type"] = json!({"const": kind});
        files.insert((*kind).to_owned(), schema);
    }
    let line = line(
        files
            .keys()
            .filter(|kind| !ANSWERS.contains(&kind.as_str())),
    );
    files.insert(LINE.to_owned(), line);
    let common = json!({
        "$schema": DIALECT,
        "description": "Definitions that the other schemas share.",
        "$defs": shared,
    });
    files.insert(COMMON.to_owned(), common);
    let texts = files.into_iter();
    texts
        .map(|(name, schema)| (name, format!("{schema:#}\n")))
        .collect()
}

/// Returns the schema of any line.
fn line<'a>(types: impl Iterator<Item = &'a String> + Clone) -> Value {
    let branches = types.clone().map(|kind| {
        json!({
            "if": {"properties": {"type": {"const": kind}}},
            "then": {"$ref": format!("{kind}.schema.json")},
        })
    });
    json!({
        "$schema": DIALECT,
        "description": "Any line that a command writes with --json.",
        "type": "object",
        "properties": {"schema": {"const": 1}, "type": {"enum": types.collect::<Vec<_>>()}},
        "required": ["schema", "type"],
        "allOf": branches.collect::<Vec<_>>(),
    })
}

/// Rejects unknown fields, and removes properties of Rust's types that JSON does not have: sizes of numbers,
/// defaults of absent fields, and null for fields that are omitted instead.
fn simplify(schema: &mut Value) {
    let Value::Object(object) = schema else {
        if let Value::Array(parts) = schema {
            parts.iter_mut().for_each(simplify);
        }
        return;
    };
    object.remove("default");
    let is_number = |name: &str| ["integer", "number"].contains(&name);
    let kind = object.get("type");
    if kind.and_then(Value::as_str).is_some_and(is_number)
        || kind.and_then(|it| it[0].as_str()).is_some_and(is_number)
    {
        object.remove("format");
    }
    let required = object.get("required").cloned().unwrap_or_default();
    let required = required.as_array().cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for (name, property) in properties {
            if !required.contains(&name.as_str().into()) {
                refuse_null(property);
            }
        }
        object.insert("additionalProperties".to_owned(), false.into());
    }
    object.values_mut().for_each(simplify);
}

fn refuse_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            if let Value::Object(schema) = schema {
                schema.remove("anyOf");
                schema.extend(only);
            }
        }
    }
}

/// Changes references to point to the files of their definitions.
fn refer(schema: &mut Value, types: &BTreeMap<Text, &str>, is_common: bool) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                let Some(name) = value.as_str().and_then(|to| to.strip_prefix("#/$defs/")) else {
                    refer(value, types, is_common);
                    continue;
                };
                if key != "$ref" {
                    continue;
                }
                *value = match types.get(name) {
                    Some(kind) => format!("{kind}.schema.json").into(),
                    None if is_common => continue,
                    None => format!("{COMMON}.schema.json#/$defs/{name}").into(),
                };
            }
        }
        Value::Array(parts) => {
            let parts = parts.iter_mut();
            parts.for_each(|part| refer(part, types, is_common));
        }
        _ => {}
    }
}

/// Line of an event that has an end.
pub(crate) struct Active;

impl JsonSchema for Active {
    fn schema_name() -> Text {
        "Active".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                generator.subschema_for::<Line<Finding>>(),
                generator.subschema_for::<Line<Growth>>(),
                generator.subschema_for::<Line<Threshold>>(),
            ],
        })
    }
}

/// The same with its key, as an agent reports it.
pub(crate) struct Keyed;

impl JsonSchema for Keyed {
    fn schema_name() -> Text {
        "Keyed".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Active::json_schema(generator);
        schema.insert("required".to_owned(), json!(["key"]));
        schema
    }
}

impl JsonSchema for Key {
    fn schema_name() -> Text {
        "Key".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{32}$",
            "description": "Identity of a finding, growth or exceeded threshold: the same in all its events, also in later runs of the agent.",
        })
    }
}

impl JsonSchema for Measure {
    fn schema_name() -> Text {
        "Measure".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": Self::ALL.map(Self::name),
            "description": "Quantity that a threshold is of.",
        })
    }
}
