//! Holds `ARCHITECTURE.md` to the sources: files, and members of types, that it names are to be there;
//! where it tells the way of an event, everything is. And each source is to open with what it is for. Whether
//! what is said is so, is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::say;

/// Where the sources are.
const SOURCES: [&str; 4] = [
    "fdwatch",
    "fdwatch-common/src",
    "fdwatch-ebpf/src",
    "xtask/src",
];

/// In this section each name is to be in the sources, whatever it is of.
const STRICT: &str = "## The way of an event";

/// What comes before the name of a type where that is made.
const DEFINES: [&str; 5] = ["enum", "mod", "struct", "trait", "type"];

/// Fails if something is named that is not there.
pub(crate) fn check() -> Result<()> {
    say("looks for what ARCHITECTURE.md names");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("ARCHITECTURE.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let sources = Sources::read(&root)?;
    if !sources.unsaid.is_empty() {
        bail!(
            "these do not open with what they are for (//!): {}",
            sources.unsaid.join(", ")
        );
    }
    let missing = missing(&text, &sources);
    if !missing.is_empty() {
        bail!(
            "ARCHITECTURE.md names what is not in the sources: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// The sources.
#[derive(Default)]
struct Sources {
    /// The words of each.
    words: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Those that do not open with what they are for.
    unsaid: Vec<String>,
}

impl Sources {
    fn read(root: &Path) -> Result<Self> {
        let mut sources = Self::default();
        for directory in SOURCES {
            sources.visit(root, Path::new(directory))?;
        }
        Ok(sources)
    }

    fn visit(&mut self, root: &Path, within: &Path) -> Result<()> {
        let directory = root.join(within);
        let cannot = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = within.join(entry.file_name());
            if entry.path().is_dir() {
                self.visit(root, &path)?;
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(entry.path()).with_context(cannot)?;
                self.add(path, &text);
            }
        }
        Ok(())
    }

    /// A file, and its words: with what defines them before those that are defined.
    fn add(&mut self, path: PathBuf, text: &str) {
        if !text.starts_with("//!") {
            self.unsaid.push(path.display().to_string());
        }
        let mut words = BTreeSet::new();
        let mut before = "";
        for word in text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_') {
            if word.is_empty() {
                continue;
            }
            if DEFINES.contains(&before) {
                words.insert(format!("{before} {word}"));
            }
            words.insert(word.to_owned());
            before = word;
        }
        self.words.insert(path, words);
    }

    fn has_file(&self, name: &str) -> bool {
        self.words.keys().any(|path| path.ends_with(name))
    }

    fn has_word(&self, word: &str) -> bool {
        self.words.values().any(|words| words.contains(word))
    }

    /// Whether a type or a module is there, and something of this name where it is defined or used
    /// as what a file is about.
    fn has_member(&self, of: &str, member: &str) -> bool {
        let is_defined = self.has_file(&format!("{of}.rs"))
            || self.has_file(&format!("{of}/mod.rs"))
            || DEFINES
                .iter()
                .any(|how| self.has_word(&format!("{how} {of}")));
        let together = |words: &BTreeSet<String>| words.contains(of) && words.contains(member);
        let is_of_file = |path: &Path| path.file_stem().is_some_and(|stem| stem == of);
        is_defined
            && self
                .words
                .iter()
                .any(|(path, words)| together(words) || is_of_file(path) && words.contains(member))
    }
}

/// What the text has in backquotes that is to be in the sources and is not.
fn missing(text: &str, sources: &Sources) -> Vec<String> {
    let mut missing = Vec::new();
    let mut is_strict = false;
    let mut is_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if is_code {
            continue;
        }
        if line.starts_with("## ") {
            is_strict = line == STRICT;
        }
        for name in line.split('`').skip(1).step_by(2) {
            if !is_there(name, is_strict, sources) {
                missing.push(name.to_owned());
            }
        }
    }
    missing
}

fn is_there(name: &str, is_strict: bool, sources: &Sources) -> bool {
    let is_word = |it: &str| it.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    if name.ends_with(".rs") {
        return sources.has_file(name);
    }
    if let Some((of, member)) = name.split_once("::") {
        let is_ours = is_word(of) && is_word(member) && of != "std";
        return !is_ours || sources.has_member(of, member);
    }
    !is_strict || !is_word(name) || sources.has_word(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        let live = "//! The loop.\npub struct Live;\nimpl Live { fn drain(&self) {} }";
        sources.add("fdwatch/src/commands/live/mod.rs".into(), live);
        sources
    }

    #[test]
    fn what_was_renamed_is_missed() {
        let text = "`Live::drain` `Live::empty` `Dead::drain`\n`live/mod.rs` `live/news.rs`\n";
        let expected = ["Live::empty", "Dead::drain", "live/news.rs"];
        assert_eq!(missing(text, &sources()), expected);
    }

    #[test]
    fn a_source_that_does_not_say_what_it_is_for_is_told() {
        let mut sources = sources();
        assert!(sources.unsaid.is_empty());
        sources.add("xtask/src/new.rs".into(), "use std::fs;");
        assert_eq!(sources.unsaid, ["xtask/src/new.rs"]);
    }

    #[test]
    fn names_alone_are_looked_for_in_the_way_of_an_event() {
        let text = format!("`fill`\n{STRICT}\n`drain` `fill` `/v1/events`\n## Rules\n`fill`\n");
        assert_eq!(missing(&text, &sources()), ["fill"]);
    }

    #[test]
    fn what_the_project_says_of_itself_is_there() {
        check().unwrap();
    }
}
