//! The forms of fdwatch's JSON, as `docs/schema` has them: each object that a test reads is held to
//! that of its type.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::OnceLock};

use jsonschema::{Registry, Validator};
use serde_json::Value;

/// How the files' names end.
const ENDING: &str = ".schema.json";

/// Where they are, to those that refer to each other. Nothing is fetched.
const BASE: &str = "file:///schema/";

/// All files, by their names without the ending.
pub(crate) fn files() -> BTreeMap<String, Value> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("the forms are there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(ENDING) else {
            panic!("{} is no form", path.display());
        };
        let text = fs::read_to_string(&path).expect("it can be read");
        let form = serde_json::from_str(&text);
        let form = form.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        files.insert(name.to_owned(), form);
    }
    files
}

/// What holds an object to a form, by the form's name.
pub(crate) fn validators() -> &'static BTreeMap<String, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let files = files();
        let mut registry = Registry::new();
        for (name, form) in &files {
            let added = registry.add(format!("{BASE}{name}{ENDING}"), form);
            registry = added.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let registry = registry
            .prepare()
            .expect("all that is referred to is there");
        let validator = |(name, form): (&String, &Value)| {
            let validator = jsonschema::options()
                .with_base_uri(format!("{BASE}{name}{ENDING}"))
                .with_registry(&registry)
                .should_validate_formats(true)
                .build(form);
            let validator = validator.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), validator)
        };
        files.iter().map(validator).collect()
    })
}

/// What is not as a form says.
pub(crate) fn faults(form: &str, object: &Value) -> Vec<String> {
    let Some(validator) = validators().get(form) else {
        return vec![format!("there is no form {form}")];
    };
    let errors = validator.iter_errors(object);
    let fault = |error: jsonschema::ValidationError<'_>| {
        let what: String = error.to_string().chars().take(500).collect();
        format!("{form}{}: {what}", error.instance_path())
    };
    errors.map(fault).collect()
}

/// Holds what fdwatch has told to the form of its type; what others have, which has none, is
/// passed over.
#[track_caller]
pub(crate) fn hold(object: &Value) {
    let (Some(_), Some(kind)) = (object.get("schema"), object["type"].as_str()) else {
        return;
    };
    let faults = faults(kind, object);
    assert!(faults.is_empty(), "{}\n{object}", faults.join("\n"));
}
