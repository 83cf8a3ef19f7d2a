//! JSON schemas of `docs/schema`: validates each object that a test reads.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::OnceLock};

use jsonschema::{Registry, Validator};
use serde_json::Value;

/// Suffix of the files' names.
const SUFFIX: &str = ".schema.json";

/// Base URI by which the schemas refer to each other. Nothing is fetched.
const BASE: &str = "file:///schema/";

/// Reads all schemas, by name without the suffix.
pub fn files() -> BTreeMap<String, Value> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../docs/schema");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("no schemas") {
        let path = entry.expect("cannot read a file").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(SUFFIX) else {
            panic!("{} is not a schema", path.display());
        };
        let text = fs::read_to_string(&path).expect("cannot read a file");
        let schema = serde_json::from_str(&text);
        let schema = schema.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        files.insert(name.to_owned(), schema);
    }
    files
}

/// Returns the compiled schemas, by name.
pub fn validators() -> &'static BTreeMap<String, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let files = files();
        let mut registry = Registry::new();
        for (name, schema) in &files {
            let added = registry.add(format!("{BASE}{name}{SUFFIX}"), schema);
            registry = added.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let registry = registry.prepare().expect("unresolved reference");
        let validator = |(name, schema): (&String, &Value)| {
            let validator = jsonschema::options()
                .with_base_uri(format!("{BASE}{name}{SUFFIX}"))
                .with_registry(&registry)
                .should_validate_formats(true)
                .build(schema);
            let validator = validator.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), validator)
        };
        files.iter().map(validator).collect()
    })
}

/// Returns the differences between an object and a schema.
pub fn faults(schema: &str, object: &Value) -> Vec<String> {
    let Some(validator) = validators().get(schema) else {
        return vec![format!("no schema {schema}")];
    };
    let errors = validator.iter_errors(object);
    let fault = |error: jsonschema::ValidationError<'_>| {
        let what: String = error.to_string().chars().take(500).collect();
        format!("{schema}{}: {what}", error.instance_path())
    };
    errors.map(fault).collect()
}

/// Asserts that an object matches the schema of its type. Objects of other programs have no type and are
/// skipped.
#[track_caller]
pub fn validate(object: &Value) {
    let (Some(_), Some(kind)) = (object.get("schema"), object["type"].as_str()) else {
        return;
    };
    let faults = faults(kind, object);
    assert!(faults.is_empty(), "{}\n{object}", faults.join("\n"));
}
