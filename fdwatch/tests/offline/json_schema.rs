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
        // Schemas that only refer to others, and those that others include and close.
        let exempt = |object: &Value| {
            name == "line" || (name == "common" && *object == form["$defs"]["FleetDuplicates"])
        };
        let mut found = Vec::new();
        objects(&form, &mut found);
        for object in found.into_iter().filter(|object| !exempt(object)) {
            let closed = [
                &object["additionalProperties"],
                &object["unevaluatedProperties"],
            ];
            // Counts by name, such as by type, have numbers only.
            let counts = json!({"type": "integer", "minimum": 0});
            let is_closed = closed.contains(&&Value::Bool(false))
                || object.get("properties").is_none() && closed.contains(&&counts)
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

/// Types that are named in the sources.
#[test]
fn every_written_type_has_a_schema() {
    fn visit(directory: &Path, kinds: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).expect("no sources") {
            let path = entry.expect("cannot read a file").path();
            if path.is_dir() {
                visit(&path, kinds);
                continue;
            }
            if path.extension().is_none_or(|it| it != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            for before in [
                "self.line(\"",
                "self.lines(\"",
                "\"type\": \"",
                "\\\"type\\\":\\\"",
            ] {
                let after = text.split(before).skip(1);
                kinds.extend(after.filter_map(|text| {
                    let end = text.find(|letter| !matches!(letter, 'a'..='z' | '-'))?;
                    Some(text[..end].to_owned())
                }));
            }
        }
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut kinds = BTreeSet::new();
    for part in ["report", "agent/api", "commands"] {
        visit(&sources.join(part), &mut kinds);
    }
    assert!(
        kinds.contains("finding") && kinds.contains("health"),
        "{kinds:?}"
    );
    let files = schema::files();
    let without: Vec<_> = kinds
        .iter()
        .filter(|kind| !files.contains_key(*kind))
        .collect();
    assert!(without.is_empty(), "{without:?}");
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
