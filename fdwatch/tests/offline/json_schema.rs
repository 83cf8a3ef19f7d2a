//! Schemas of `--json` output: exact, and complete for all types that fdwatch writes. All tests validate the
//! output that they read (`fdwatch_test_support::parse`).

use std::{collections::BTreeSet, fs, path::Path};

use fdwatch_test_support::{Puppet, Watch, bpf, fdwatch, run, schema};
use serde_json::{Value, json};

/// Returns all object schemas within a schema.
fn objects<'a>(form: &'a Value, found: &mut Vec<&'a Value>) {
    match form {
        Value::Object(parts) => {
            if form["type"] == "object" {
                found.push(form);
            }
            parts.values().for_each(|part| objects(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| objects(part, found)),
        _ => {}
    }
}

#[test]
fn schemas_are_valid_2020_12() {
    for (name, form) in schema::files() {
        assert_eq!(
            form["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        assert!(form["description"].is_string(), "{name}");
        jsonschema::meta::validate(&form).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(schema::validators().len(), schema::files().len());
}

#[test]
fn objects_allow_no_unknown_fields() {
    for (name, form) in schema::files() {
        // This schema only refers to others.
        if name == "line" {
            continue;
        }
        let mut found = Vec::new();
        objects(&form, &mut found);
        for object in found {
            let others = &object["additionalProperties"];
            // Objects with counts by name, such as by type, contain only numbers.
            let counts = json!({"type": "integer", "minimum": 0});
            let is_closed = *others == false
                || object.get("properties").is_none() && *others == counts
                || name == "health" && *object == form["properties"]["outlets"];
            assert!(is_closed, "{name}: {object}");
        }
    }
}

#[test]
fn schema_is_named_for_its_type() {
    let files = schema::files();
    let mut types = BTreeSet::new();
    for (name, form) in &files {
        if let Some(kind) = form["properties"]["type"]["const"].as_str() {
            assert_eq!(kind, name);
            assert_eq!(form["properties"]["schema"]["const"], 1, "{name}");
            types.insert(kind.to_owned());
        }
    }
    let others: Vec<_> = files.keys().filter(|name| !types.contains(*name)).collect();
    assert_eq!(others, ["common", "line"]);
    // `line` has every type except those that only the agent's API returns.
    let lines = files["line"]["properties"]["type"]["enum"].as_array();
    let lines: BTreeSet<_> = lines
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let answers = [
        "dropped",
        "error",
        "findings",
        "health",
        "processes",
        "version",
        "written",
    ];
    types.retain(|kind| !answers.contains(&kind.as_str()));
    assert_eq!(lines, types.iter().map(String::as_str).collect());
}

#[test]
fn every_written_type_has_a_schema() {
    const CONSTANT: &str = "const TYPE: &'static str = \"";
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/events/src/wire");
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(wire).expect("no sources") {
        let path = entry.expect("cannot read a file").path();
        let text = fs::read_to_string(path).expect("cannot read a file");
        let after = text.split(CONSTANT).skip(1);
        kinds.extend(after.filter_map(|text| Some(text.split_once('"')?.0.to_owned())));
    }
    let mut files: BTreeSet<_> = schema::files().into_keys().collect();
    files.retain(|name| !["common", "line"].contains(&name.as_str()));
    assert_eq!(kinds, files);
}

#[test]
fn unknown_and_missing_fields_are_rejected() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/postgres.fdw");
    let mut command = fdwatch(["replay", "--all", "--json"]);
    command.arg(recorded);
    let reported = run(command).json();
    let finding = reported.iter().find(|line| line["type"] == "finding");
    let finding = finding.expect("no finding").clone();
    for form in ["finding", "line"] {
        let faults = schema::faults(form, &finding);
        assert!(faults.is_empty(), "{faults:?}");
    }
    let changes: [fn(&mut Value); 5] = [
        |finding| finding["colour"] = json!("red"),
        |finding| finding["process"]["colour"] = json!("red"),
        |finding| finding["fds"][0]["access"] = json!("a"),
        |finding| finding["time"] = json!("yesterday"),
        |finding| {
            finding
                .as_object_mut()
                .map(|finding| finding.remove("cause"));
        },
    ];
    for change in changes {
        let mut changed = finding.clone();
        change(&mut changed);
        for form in ["finding", "line"] {
            assert!(!schema::faults(form, &changed).is_empty(), "{changed}");
        }
    }
}

#[test]
fn watch_output_matches_schemas() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let path = directory.path().join("twice.log");
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut watch = Watch::of(puppet.pid(), &["--all"]);
    puppet.open(&path, "WRONLY|CREAT");
    let fd = puppet.open(&path, "RDWR");
    watch.next_of("finding");
    puppet.close(fd);
    watch.end();
    puppet.open(&path, "RDONLY");
    let of = |arguments: &[&str]| {
        let mut command = fdwatch(arguments);
        command.arg("--json");
        let reported = run(command);
        let kinds = reported.json().into_iter().map(|line| line["type"].clone());
        let kinds: BTreeSet<_> = kinds.map(|kind| kind.as_str().map(str::to_owned)).collect();
        assert!(!kinds.is_empty(), "{arguments:?}: {}", reported.stderr);
        kinds
    };
    let only = |kind: &str| BTreeSet::from([Some(kind.to_owned())]);
    assert_eq!(of(&["scan", "--pid", &pid]), only("finding"));
    assert_eq!(of(&["fds", &pid]), only("table"));
    assert_eq!(of(&["explain", &pid]), only("explanation"));
    assert_eq!(of(&["doctor"]), only("doctor"));
}
