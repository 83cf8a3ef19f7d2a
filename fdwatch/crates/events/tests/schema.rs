//! `docs/schema` is generated from the types, accepts what it accepted when it was written by hand
//! (`tests/schema`), and refuses unknown fields.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::{collections::BTreeMap, fs, path::Path};

use fdwatch_events::{
    schema,
    wire::{
        Body, Budget, Call, Doctor, Dropped, Error, Event, Explanation, Finding, Findings,
        FleetDuplicates, FleetHost, FleetMore, FleetShared, FleetSignature, Growth, Health,
        History, HistoryHour, Leak, Line, Lint, Loss, Object, Processes, Run, Started, Summary,
        Table, Threshold, Version, Written,
    },
};
use jsonschema::{Registry, Validator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const ENDING: &str = ".schema.json";

/// Base of references between the files. Nothing is fetched.
const BASE: &str = "file:///schema/";

fn directory(path: &str) -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(name) = name.strip_suffix(ENDING) {
            files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
    files
}

fn parsed(files: BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let files = files.into_iter();
    files
        .map(|(name, text)| (name, serde_json::from_str(&text).unwrap()))
        .collect()
}

fn old() -> BTreeMap<String, Value> {
    parsed(directory("tests/schema"))
}

fn new() -> BTreeMap<String, Value> {
    parsed(schema::files())
}

fn validators(files: &BTreeMap<String, Value>) -> BTreeMap<String, Validator> {
    let mut registry = Registry::new();
    for (name, schema) in files {
        registry = registry
            .add(format!("{BASE}{name}{ENDING}"), schema)
            .unwrap();
    }
    let registry = registry.prepare().unwrap();
    let validator = |(name, schema): (&String, &Value)| {
        let options = jsonschema::options()
            .with_base_uri(format!("{BASE}{name}{ENDING}"))
            .with_registry(&registry)
            .should_validate_formats(true);
        (name.clone(), options.build(schema).unwrap())
    };
    files.iter().map(validator).collect()
}

fn faults(validator: &Validator, object: &Value) -> Vec<String> {
    let errors = validator.iter_errors(object);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Returns at least one object of each type, and all lines of the recordings.
fn samples() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/schema/samples.jsonl")).unwrap();
    let mut samples: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for entry in fs::read_dir(root.join("../../tests/recordings")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jsonl") {
            let text = fs::read_to_string(path).unwrap();
            samples.extend(
                text.lines()
                    .map(|line| recorded(serde_json::from_str(line).unwrap())),
            );
        }
    }
    samples
}

/// Restores what the recordings' tests remove because it differs from run to run.
fn recorded(mut line: Value) -> Value {
    if line["type"] == "summary" {
        line["cpu"] = json!({"user": 0.5, "system": 0.25});
        line["memory"] = json!({"peak_rss": 1});
    }
    for list in ["fds", "closed"] {
        for fd in line[list].as_array_mut().into_iter().flatten() {
            fd["description"] = "00000000000000aa".into();
        }
    }
    if line["type"] == "finding" {
        line["advice"] = "open it once".into();
    }
    for list in ["fds", "closed"] {
        if line[list].is_null() {
            line.as_object_mut().unwrap().remove(list);
        }
    }
    line
}

#[test]
fn docs_schema_is_current() {
    let hint = "run `cargo xtask schema`";
    let (files, docs) = (schema::files(), directory("../../../docs/schema"));
    assert!(files.keys().eq(docs.keys()), "{hint}");
    for (name, text) in files {
        assert_eq!(text, docs[&name], "{name} is out of date: {hint}");
    }
}

#[test]
fn samples_match_former_and_current_schemas() {
    let (former, current) = (validators(&old()), validators(&new()));
    let samples = samples();
    for name in former
        .keys()
        .filter(|name| !["common", "line"].contains(&name.as_str()))
    {
        assert!(
            samples.iter().any(|it| it["type"] == **name),
            "no sample of {name}"
        );
    }
    for sample in samples {
        let name = sample["type"].as_str().unwrap();
        for validators in [&former, &current] {
            assert_eq!(faults(&validators[name], &sample), [""; 0], "{sample}");
        }
        if faults(&former["line"], &sample).is_empty() {
            assert_eq!(faults(&current["line"], &sample), [""; 0], "{sample}");
        }
    }
}

#[test]
fn unknown_and_missing_fields_are_rejected() {
    fn change(value: &Value, changed: &mut dyn FnMut(Value), wrap: &dyn Fn(Value) -> Value) {
        match value {
            Value::Object(fields) => {
                let mut more = fields.clone();
                more.insert("colour".to_owned(), "red".into());
                changed(wrap(more.into()));
                for (name, field) in fields {
                    // Counts by name have any names.
                    if [
                        "by_kind",
                        "by_type",
                        "by_origin",
                        "more_by_type",
                        "more_by_origin",
                        "outlets",
                    ]
                    .contains(&name.as_str())
                    {
                        continue;
                    }
                    change(field, changed, &|field| {
                        let mut fields = fields.clone();
                        fields.insert(name.clone(), field);
                        wrap(fields.into())
                    });
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    change(item, changed, &|item| {
                        let mut items = items.clone();
                        items[index] = item;
                        wrap(items.into())
                    });
                }
            }
            _ => {}
        }
    }
    let current = validators(&new());
    for sample in samples() {
        let validator = &current[sample["type"].as_str().unwrap()];
        let mut count = 0;
        change(
            &sample,
            &mut |changed| {
                count += 1;
                assert!(!validator.is_valid(&changed), "{changed}");
            },
            &|it| it,
        );
        assert!(count > 0);
        for name in ["schema", "type"] {
            let mut changed = sample.clone();
            changed.as_object_mut().unwrap().remove(name);
            assert!(!validator.is_valid(&changed), "{name}: {changed}");
        }
    }
}

/// Compares schemas: everything the former one accepts, the current one accepts.
struct Comparison<'a> {
    former: &'a BTreeMap<String, Value>,
    current: &'a BTreeMap<String, Value>,
}

/// Schema with the file that its references are relative to.
#[derive(Clone)]
struct Place {
    file: String,
    schema: Value,
}

impl Comparison<'_> {
    /// Returns the alternatives of a schema: references are resolved, `anyOf` and lists of types split.
    fn alternatives(files: &BTreeMap<String, Value>, place: &Place) -> Vec<Place> {
        let mut schema = place.schema.clone();
        let fields = schema.as_object_mut().unwrap();
        let with = |fields: &serde_json::Map<String, Value>, of: Place| {
            let mut merged = of.schema.as_object().unwrap().clone();
            for (name, value) in fields {
                match (name.as_str(), merged.get_mut(name)) {
                    ("properties", Some(Value::Object(own))) => {
                        own.extend(value.as_object().unwrap().clone());
                    }
                    ("required", Some(Value::Array(own))) => {
                        own.extend(value.as_array().unwrap().clone());
                    }
                    _ => {
                        merged.insert(name.clone(), value.clone());
                    }
                }
            }
            Place {
                file: of.file,
                schema: merged.into(),
            }
        };
        if let Some(Value::String(to)) = fields.remove("$ref") {
            let (file, pointer) = to.split_once('#').unwrap_or((&to, ""));
            let file = match file.strip_suffix(ENDING) {
                Some(file) => file.to_owned(),
                None => place.file.clone(),
            };
            let schema = files[&file]
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{to}"))
                .clone();
            return Self::alternatives(files, &with(fields, Place { file, schema }));
        }
        if let Some(Value::Array(choices)) = fields.remove("anyOf") {
            let choices = choices.into_iter().map(|schema| {
                let place = Place {
                    file: place.file.clone(),
                    schema,
                };
                with(fields, place)
            });
            return choices
                .flat_map(|place| Self::alternatives(files, &place))
                .collect();
        }
        if let Some(Value::Array(types)) = fields.get("type").cloned() {
            return types
                .into_iter()
                .map(|kind| {
                    let mut fields = fields.clone();
                    fields.insert("type".to_owned(), kind);
                    Place {
                        file: place.file.clone(),
                        schema: fields.into(),
                    }
                })
                .collect();
        }
        vec![Place {
            file: place.file.clone(),
            schema,
        }]
    }

    fn compare(&self, path: &str, former: &Place, current: &Place, faults: &mut Vec<String>) {
        for former in Self::alternatives(self.former, former) {
            let mut best: Option<Vec<String>> = None;
            for current in Self::alternatives(self.current, current) {
                let mut faults = Vec::new();
                self.compare_one(path, &former, &current, &mut faults);
                if best.as_ref().is_none_or(|best| faults.len() < best.len()) {
                    best = Some(faults);
                }
            }
            faults.extend(best.unwrap());
        }
    }

    fn compare_one(&self, path: &str, former: &Place, current: &Place, faults: &mut Vec<String>) {
        let (old, new) = (&former.schema, &current.schema);
        let mut fault = |what: &str| faults.push(format!("{path}: {what}: {old} became {new}"));
        if !new["type"].is_null() && !old["type"].is_null() && new["type"] != old["type"] {
            return fault("type");
        }
        for name in ["pattern", "format", "const"] {
            if !new[name].is_null() && new[name] != old[name] {
                fault(name);
            }
        }
        let minimum = |schema: &Value| schema["minimum"].as_f64();
        if minimum(new) > minimum(old) {
            fault("minimum");
        }
        let list =
            |schema: &Value, name: &str| schema[name].as_array().cloned().unwrap_or_default();
        if !list(old, "enum")
            .iter()
            .all(|it| list(new, "enum").contains(it))
        {
            fault("enum");
        }
        if !list(new, "required")
            .iter()
            .all(|it| list(old, "required").contains(it))
        {
            fault("required");
        }
        for inner in ["items", "additionalProperties"] {
            if new[inner].is_object() {
                if !old[inner].is_object() {
                    fault(inner);
                    continue;
                }
                self.inner(
                    &format!("{path}/{inner}"),
                    former,
                    current,
                    &old[inner],
                    &new[inner],
                    faults,
                );
                return self.properties(path, former, current, faults);
            }
        }
        self.properties(path, former, current, faults);
    }

    fn properties(&self, path: &str, former: &Place, current: &Place, faults: &mut Vec<String>) {
        let old = former.schema["properties"]
            .as_object()
            .into_iter()
            .flatten();
        for (name, old) in old {
            match current.schema["properties"].get(name) {
                Some(new) => {
                    self.inner(&format!("{path}/{name}"), former, current, old, new, faults);
                }
                None => faults.push(format!("{path}/{name}: is gone")),
            }
        }
    }

    fn inner(
        &self,
        path: &str,
        former: &Place,
        current: &Place,
        old: &Value,
        new: &Value,
        faults: &mut Vec<String>,
    ) {
        let place = |of: &Place, schema: &Value| Place {
            file: of.file.clone(),
            schema: schema.clone(),
        };
        self.compare(path, &place(former, old), &place(current, new), faults);
    }
}

#[test]
fn schemas_are_backward_compatible() {
    let (former, current) = (old(), new());
    assert!(former.keys().eq(current.keys()));
    let comparison = Comparison {
        former: &former,
        current: &current,
    };
    let mut faults = Vec::new();
    for name in former.keys().filter(|name| name.as_str() != "common") {
        let place = |files: &BTreeMap<String, Value>| Place {
            file: name.clone(),
            schema: files[name].clone(),
        };
        comparison.compare(name, &place(&former), &place(&current), &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // The comparison finds differences at all.
    let mut changed = former.clone();
    changed.get_mut("common").unwrap()["$defs"]["Fd"]["properties"]["colour"] =
        json!({"type": "string"});
    changed.get_mut("common").unwrap()["$defs"]["Cause"]["enum"] = json!(["bored"]);
    let comparison = Comparison {
        former: &changed,
        current: &current,
    };
    let place = |files: &BTreeMap<String, Value>| Place {
        file: "finding".to_owned(),
        schema: files["finding"].clone(),
    };
    comparison.compare("finding", &place(&changed), &place(&current), &mut faults);
    let all = faults.join("\n");
    assert!(all.contains("finding/fds/items/colour: is gone"), "{all}");
    assert!(all.contains("finding/cause: enum"), "{all}");
}

#[test]
fn samples_round_trip() {
    fn of<T: DeserializeOwned + Serialize>(text: &str) -> Value {
        let object: T =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        serde_json::to_value(&object).unwrap()
    }
    for sample in samples() {
        let text = sample.to_string();
        let kind = sample["type"].as_str().unwrap();
        let read = match kind {
            Budget::TYPE => of::<Line<Budget>>(&text),
            Call::TYPE => of::<Line<Call>>(&text),
            Doctor::TYPE => of::<Object<Doctor>>(&text),
            Dropped::TYPE => of::<Object<Dropped>>(&text),
            Error::TYPE => of::<Object<Error>>(&text),
            Explanation::TYPE => of::<Line<Explanation>>(&text),
            Finding::TYPE => of::<Line<Finding>>(&text),
            Findings::TYPE => of::<Object<Findings>>(&text),
            FleetDuplicates::TYPE => of::<Object<FleetDuplicates>>(&text),
            FleetHost::TYPE => of::<Object<FleetHost>>(&text),
            FleetMore::TYPE => of::<Object<FleetMore>>(&text),
            FleetShared::TYPE => of::<Object<FleetShared>>(&text),
            FleetSignature::TYPE => of::<Object<FleetSignature>>(&text),
            Growth::TYPE => of::<Line<Growth>>(&text),
            Health::TYPE => of::<Line<Health>>(&text),
            History::TYPE => of::<Object<History>>(&text),
            HistoryHour::TYPE => of::<Object<HistoryHour>>(&text),
            Leak::TYPE => of::<Line<Leak>>(&text),
            Lint::TYPE => of::<Object<Lint>>(&text),
            Loss::TYPE => of::<Line<Loss>>(&text),
            Processes::TYPE => of::<Object<Processes>>(&text),
            Run::TYPE => of::<Line<Run>>(&text),
            Started::TYPE => of::<Line<Started>>(&text),
            Summary::TYPE => of::<Line<Summary>>(&text),
            Table::TYPE => of::<Line<Table>>(&text),
            Threshold::TYPE => of::<Line<Threshold>>(&text),
            Version::TYPE => of::<Object<Version>>(&text),
            Written::TYPE => of::<Line<Written>>(&text),
            _ => panic!("unknown type: {kind}"),
        };
        assert_eq!(read, sample);
        if [
            Finding::TYPE,
            Growth::TYPE,
            Threshold::TYPE,
            Loss::TYPE,
            Budget::TYPE,
            Dropped::TYPE,
        ]
        .contains(&kind)
        {
            assert_eq!(of::<Event>(&text), sample);
        }
    }
    let unknown = r#"{"schema":1,"type":"new","b":1,"a":2}"#;
    let event: Event = serde_json::from_str(unknown).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), unknown);
}
