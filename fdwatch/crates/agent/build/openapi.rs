//! Builds the OpenAPI document: adds the schemas in `docs/schema` that the API's own file refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// The prefix of references to schemas in the document.
const COMPONENTS: &str = "#/components/schemas/";

/// Suffix of files in `docs/schema`.
const SUFFIX: &str = ".schema.json";

/// The file with definitions that others share.
const COMMON: &str = "common";

/// The document, from the API's own file and the directory of schemas.
pub(crate) fn document(api: &Path, schemas: &Path) -> Result<String> {
    println!("cargo::rerun-if-changed={}", api.display());
    println!("cargo::rerun-if-changed={}", schemas.display());
    let mut document = read(api)?;
    let schemas = read_schemas(schemas)?;
    let mut used = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    while let Some(name) = wanted.pop_first() {
        if used.contains_key(&name) {
            continue;
        }
        let Some(schema) = schemas.get(&name) else {
            bail!(
                "{} refers to {name}, which is not in docs/schema",
                api.display()
            );
        };
        references(schema, &mut wanted);
        used.insert(name, schema.clone());
    }
    document["components"]["schemas"] = Value::Object(used.into_iter().collect());
    Ok(document.to_string())
}

/// All schemas by their names in the document: `fleet-host` is `FleetHost` there.
fn read_schemas(directory: &Path) -> Result<Map<String, Value>> {
    let mut schemas = Map::new();
    let cannot = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(SUFFIX) else {
            continue;
        };
        let mut schema = read(&path)?;
        make_references_local(&mut schema);
        let Value::Object(mut schema) = schema else {
            bail!("{} is not an object", path.display());
        };
        schema.remove("$schema");
        if name == COMMON {
            let Some(Value::Object(common)) = schema.remove("$defs") else {
                bail!("{} has no $defs", path.display());
            };
            schemas.extend(common);
        } else {
            schemas.insert(component(name), schema.into());
        }
    }
    Ok(schemas)
}

fn read(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not valid JSON", path.display()))
}

/// Rewrites references between files to references within the document.
fn make_references_local(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(to) if key == "$ref" => *to = local(to),
                    value => make_references_local(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_references_local),
        _ => {}
    }
}

fn local(reference: &str) -> String {
    let (file, place) = reference.split_once('#').unwrap_or((reference, ""));
    let name = match place.strip_prefix("/$defs/") {
        Some(name) => name.to_owned(),
        None => component(file.strip_suffix(SUFFIX).unwrap_or(file)),
    };
    format!("{COMPONENTS}{name}")
}

fn component(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|it| it.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// Adds the names of the schemas that `value` refers to.
fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let to = object.get("$ref").and_then(Value::as_str);
            names.extend(
                to.and_then(|to| to.strip_prefix(COMPONENTS))
                    .map(str::to_owned),
            );
            object.values().for_each(|value| references(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, names)),
        _ => {}
    }
}
