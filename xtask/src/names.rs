//! Checks that the files, types and members that `ARCHITECTURE.md` names exist in the sources, and that each source
//! starts with a module comment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{cargo::WORKSPACE, shell::info};

/// Directories with sources, of all crates in them.
const SOURCES: [&str; 4] = ["fdwatch", "fdwatch-common", "fdwatch-ebpf", "xtask"];

/// Marks the heading of the section that follows an event through the code, in which every name in backquotes
/// must exist.
const STRICT: &str = "of an event";

/// Keywords before the name of a definition.
const DEFINES: [&str; 5] = ["enum", "mod", "struct", "trait", "type"];

/// Checks the names and the module comments. Fails if one is missing.
pub(crate) fn check() -> Result<()> {
    info("checking the names in ARCHITECTURE.md");
    let root = Path::new(WORKSPACE);
    let path = root.join("ARCHITECTURE.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let sources = Sources::read(root)?;
    if !sources.uncommented.is_empty() {
        bail!(
            "no module comment (//!) at the start of {}",
            sources.uncommented.join(", ")
        );
    }
    let missing = missing(&text, &sources);
    if !missing.is_empty() {
        bail!(
            "not found, but named in ARCHITECTURE.md: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// The sources.
#[derive(Default)]
struct Sources {
    /// The words of each file.
    words: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Files that do not start with a module comment.
    uncommented: Vec<String>,
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

    /// Adds a file with its words; names of definitions also together with their keyword.
    fn add(&mut self, path: PathBuf, text: &str) {
        if !text.starts_with("//!") {
            self.uncommented.push(path.display().to_string());
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

    /// Returns whether the type or module `of` exists, and a file that mentions both names, or the file `of.rs` that
    /// mentions `member`.
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

/// Returns the names in backquotes that must exist and do not.
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
            is_strict = line.ends_with(STRICT);
        }
        for name in line.split('`').skip(1).step_by(2) {
            if !exists(name, is_strict, sources) {
                missing.push(name.to_owned());
            }
        }
    }
    missing
}

fn exists(name: &str, is_strict: bool, sources: &Sources) -> bool {
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
    fn renamed_items_are_reported() {
        let text = "`Live::drain` `Live::empty` `Dead::drain`\n`live/mod.rs` `live/news.rs`\n";
        let expected = ["Live::empty", "Dead::drain", "live/news.rs"];
        assert_eq!(missing(text, &sources()), expected);
    }

    #[test]
    fn source_without_module_comment_is_reported() {
        let mut sources = sources();
        assert!(sources.uncommented.is_empty());
        sources.add("xtask/src/new.rs".into(), "use std::fs;");
        assert_eq!(sources.uncommented, ["xtask/src/new.rs"]);
    }

    #[test]
    fn plain_names_are_checked_in_strict_section() {
        let text =
            format!("`fill`\n## Path {STRICT}\n`drain` `fill` `/v1/events`\n## Rules\n`fill`\n");
        assert_eq!(missing(&text, &sources()), ["fill"]);
    }

    #[test]
    fn names_in_architecture_exist() {
        check().unwrap();
    }
}
