//! Lists the licences of all linked libraries with their texts, which most licences require to be distributed.
//!
//! cargo-about does this as well, but exists only as source whose build takes minutes in CI, and needs a
//! template and a second list of accepted licences beside `deny.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask_support::{cargo::cargo, shell::capture};

use super::target::TARGET;

/// The packages whose dependencies are linked into the binary: fdwatch and its BPF programs.
const ROOTS: [&str; 2] = ["fdwatch", "fdwatch-ebpf"];

/// A library.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Library {
    name: String,
    version: String,
    licence: String,
}

/// Returns the list of libraries with their licences, followed by the texts of the licences.
pub(super) fn licences() -> Result<String> {
    let metadata = capture(
        cargo()
            .args(["metadata", "--locked", "--format-version", "1"])
            .args(["--filter-platform", TARGET]),
    )?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let linked = linked(&metadata)?;
    let mut libraries = BTreeSet::new();
    // Many libraries share a text.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in list(&metadata, "packages") {
        // Packages of this workspace have no source.
        if package["source"].is_null() || !linked.contains(text(package, "id")) {
            continue;
        }
        let library = Library {
            name: text(package, "name").to_owned(),
            version: text(package, "version").to_owned(),
            licence: package["license"]
                .as_str()
                .unwrap_or("see below")
                .to_owned(),
        };
        let manifest = Path::new(text(package, "manifest_path"));
        for licence in texts_beside(manifest)? {
            let of = format!("{} {}", library.name, library.version);
            texts.entry(licence).or_default().insert(of);
        }
        libraries.insert(library);
    }
    if libraries.is_empty() {
        bail!("no library in cargo's metadata");
    }
    Ok(report(&libraries, &texts))
}

/// Returns the ids of all packages that are linked into [`ROOTS`].
fn linked(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"], "nodes")
        .map(|node| (text(node, "id"), node))
        .collect();
    let is_root = |package: &&Value| ROOTS.contains(&text(package, "name"));
    let mut pending: Vec<_> = list(metadata, "packages")
        .filter(|package| package["source"].is_null())
        .filter(is_root)
        .map(|package| text(package, "id"))
        .collect();
    if pending.len() != ROOTS.len() {
        bail!("{} missing in cargo's metadata", ROOTS.join(" and "));
    }
    let mut linked = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes
            .get(id)
            .with_context(|| format!("cargo's metadata does not resolve {id}"))?;
        let normal = |of: &&Value| list(of, "dep_kinds").any(|kind| kind["kind"].is_null());
        pending.extend(list(node, "deps").filter(normal).map(|of| text(of, "pkg")));
    }
    Ok(linked)
}

/// Returns the texts of the licence files beside `manifest`, sorted.
fn texts_beside(manifest: &Path) -> Result<Vec<String>> {
    let dir = manifest.parent().context("invalid manifest path")?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        let wanted = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ];
        if wanted.iter().any(|wanted| name.starts_with(wanted)) && path.is_file() {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push(
                String::from_utf8_lossy(&bytes)
                    .replace('\r', "")
                    .trim()
                    .to_owned(),
            );
        }
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}

fn report(libraries: &BTreeSet<Library>, texts: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut report = String::from("Libraries linked into fdwatch, with their licences\n\n");
    // Writing to a string cannot fail.
    for Library {
        name,
        version,
        licence,
    } in libraries
    {
        let _ = writeln!(report, "{name} {version}: {licence}");
    }
    for (text, of) in texts {
        let of: Vec<_> = of.iter().map(String::as_str).collect();
        let _ = write!(report, "\n{:-<78}\n{}:\n\n{text}\n", "", of.join(", "));
    }
    report
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, source: Option<&str>) -> Value {
        json!({"id": name, "name": name, "source": source})
    }

    fn node(id: &str, deps: &[(&str, Option<&str>)]) -> Value {
        let deps: Vec<_> = deps
            .iter()
            .map(|(on, kind)| json!({"pkg": on, "dep_kinds": [{"kind": kind}]}))
            .collect();
        json!({"id": id, "deps": deps})
    }

    #[test]
    fn build_and_dev_dependencies_are_not_linked() {
        let registry = Some("registry");
        let metadata = json!({
            "packages": [
                package("fdwatch", None), package("fdwatch-ebpf", None), package("a", registry),
                package("b", registry), package("tester", registry), package("builder", registry),
            ],
            "resolve": {"nodes": [
                node("fdwatch", &[("a", None), ("tester", Some("dev")), ("builder", Some("build"))]),
                node("fdwatch-ebpf", &[]), node("a", &[("b", None)]), node("b", &[]),
                node("tester", &[]), node("builder", &[]),
            ]},
        });
        let linked = linked(&metadata).unwrap();
        assert_eq!(
            linked,
            BTreeSet::from(["a", "b", "fdwatch", "fdwatch-ebpf"])
        );
    }

    #[test]
    fn shared_text_is_printed_once() {
        let library = |name: &str| Library {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
        };
        let of = BTreeSet::from(["a 1.0.0".to_owned(), "b 1.0.0".to_owned()]);
        let report = report(
            &BTreeSet::from([library("a"), library("b")]),
            &BTreeMap::from([("Permission is granted".to_owned(), of)]),
        );
        assert!(report.contains("\na 1.0.0: MIT\nb 1.0.0: MIT\n"));
        assert!(report.contains("\na 1.0.0, b 1.0.0:\n\nPermission is granted\n"));
    }
}
