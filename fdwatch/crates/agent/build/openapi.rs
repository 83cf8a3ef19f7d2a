//! Puts the document of the agent's API together: what can be asked for is in the API's own file,
//! and the forms of the answers are those of `docs/schema`, which has them alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// Where a form of a name is in the document.
const COMPONENTS: &str = "#/components/schemas/";

/// How the names of files in `docs/schema` end.
const ENDING: &str = ".schema.json";

/// The file that has what others have in common.
const COMMON: &str = "common";

/// The document, of the API's own file and of the directory of forms.
pub(crate) fn document(api: &Path, forms: &Path) -> Result<String> {
    println!("cargo::rerun-if-changed={}", api.display());
    println!("cargo::rerun-if-changed={}", forms.display());
    let mut document = read(api)?;
    let forms = read_forms(forms)?;
    let mut used = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    while let Some(name) = wanted.pop_first() {
        if used.contains_key(&name) {
            continue;
        }
        let Some(form) = forms.get(&name) else {
            bail!(
                "{} refers to {name}, which docs/schema has not",
                api.display()
            );
        };
        references(form, &mut wanted);
        used.insert(name, form.clone());
    }
    document["components"]["schemas"] = Value::Object(used.into_iter().collect());
    Ok(document.to_string())
}

/// All forms by the names that they have in the document: `fleet-host` is `FleetHost` there.
fn read_forms(directory: &Path) -> Result<Map<String, Value>> {
    let mut forms = Map::new();
    let cannot = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(ENDING) else {
            continue;
        };
        let mut form = read(&path)?;
        refer_within(&mut form);
        let Value::Object(mut form) = form else {
            bail!("{} is not an object", path.display());
        };
        form.remove("$schema");
        if name == COMMON {
            let Some(Value::Object(common)) = form.remove("$defs") else {
                bail!("{} has no $defs", path.display());
            };
            forms.extend(common);
        } else {
            forms.insert(component(name), form.into());
        }
    }
    Ok(forms)
}

fn read(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Has references between files lead within one document.
fn refer_within(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(to) if key == "$ref" => *to = within(to),
                    value => refer_within(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(refer_within),
        _ => {}
    }
}

fn within(reference: &str) -> String {
    let (file, place) = reference.split_once('#').unwrap_or((reference, ""));
    let name = match place.strip_prefix("/$defs/") {
        Some(name) => name.to_owned(),
        None => component(file.strip_suffix(ENDING).unwrap_or(file)),
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

/// Adds the names of the forms that are referred to.
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
