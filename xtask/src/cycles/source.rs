//! The modules of a crate: the items that each defines, imports and names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::tokens::tokens;

/// A path of names, such as `crate::a::B`.
pub(super) type Names = Vec<String>;

/// Keywords before the name of an item.
const ITEMS: [&str; 10] = [
    "const",
    "enum",
    "fn",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
];

/// A crate's modules by their paths; the root's is empty.
#[derive(Debug, Default)]
pub(super) struct Crate(pub(super) BTreeMap<Names, Module>);

/// A module.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its file.
    pub(super) file: PathBuf,
    /// Names of items that it defines.
    pub(super) items: BTreeSet<String>,
    /// Its child modules.
    pub(super) children: BTreeSet<String>,
    /// Imported names and their paths.
    pub(super) imports: BTreeMap<String, Names>,
    /// Paths that are imported with `*`.
    pub(super) globs: Vec<Names>,
    /// Paths that it names: in `use`, unless it re-exports them, and elsewhere.
    pub(super) uses: BTreeSet<Names>,
}

impl Crate {
    /// Reads the crate whose root is this file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut crate_ = Self::default();
        let directory = root.parent().context("invalid path")?.to_owned();
        crate_.read_module(Names::new(), root.to_owned(), &directory)?;
        Ok(crate_)
    }

    /// Reads a module and its children, whose files are in `directory`.
    fn read_module(&mut self, path: Names, file: PathBuf, directory: &Path) -> Result<()> {
        let source =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        self.parse(path, &file, directory, &tokens(&source))
    }

    fn parse(
        &mut self,
        path: Names,
        file: &Path,
        directory: &Path,
        tokens: &[String],
    ) -> Result<()> {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let mut words = BTreeSet::new();
        let mut reexports = Vec::new();
        let mut depth = 0_u32;
        let mut is_public = false;
        let mut i = 0;
        while i < tokens.len() {
            let token = tokens[i].as_str();
            words.insert(token);
            let next = tokens.get(i + 1).map_or("", String::as_str);
            match token {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "pub" => is_public = true,
                ";" | "=" => is_public = false,
                "mod" if depth == 0 => {
                    let child = [&path[..], &[next.to_owned()]].concat();
                    let inner = directory.join(next);
                    module.children.insert(next.to_owned());
                    if tokens.get(i + 2).is_some_and(|it| it == "{") {
                        let end = closing(tokens, i + 2);
                        self.parse(child, file, &inner, &tokens[i + 3..end])?;
                        i = end;
                    } else {
                        let flat = directory.join(format!("{next}.rs"));
                        let file = Some(flat).filter(|file| file.exists());
                        let file = file.unwrap_or_else(|| inner.join("mod.rs"));
                        self.read_module(child, file, &inner)?;
                    }
                    is_public = false;
                }
                "use" => {
                    let end = (i..tokens.len())
                        .find(|end| tokens[*end] == ";")
                        .unwrap_or(tokens.len());
                    reexports.extend(module.import(&tokens[i + 1..end], is_public && depth == 0));
                    is_public = false;
                    i = end;
                }
                "extern" => is_public = false,
                _ if ITEMS.contains(&token) && depth == 0 => {
                    let name = tokens[i + 1..]
                        .iter()
                        .find(|it| !["!", "mut", "fn", "_"].contains(&it.as_str()));
                    module.items.extend(name.cloned());
                    is_public = false;
                }
                _ if next == "::" && (i == 0 || tokens[i - 1] != "::") => {
                    let (names, end) = names(tokens, i);
                    module.uses.insert(names);
                    i = end;
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
        // The module itself uses some of its re-exports.
        reexports.retain(|(name, _)| words.contains(name.as_str()));
        module
            .uses
            .extend(reexports.into_iter().map(|(_, path)| path));
        self.0.insert(path, module);
        Ok(())
    }
}

impl Module {
    /// Adds the imports of a `use`. Returns the names and paths that it re-exports, which are not uses.
    fn import(&mut self, tree: &[String], is_reexport: bool) -> Vec<(String, Names)> {
        let mut reexports = Vec::new();
        for (path, name) in leaves(&Names::new(), tree) {
            let mut used = path.clone();
            if name == "*" {
                self.globs.push(path);
                used.push(name.clone());
            } else {
                self.imports.insert(name.clone(), path);
                if is_reexport {
                    reexports.push((name, used));
                    continue;
                }
            }
            if !is_reexport {
                self.uses.insert(used);
            }
        }
        reexports
    }
}

/// Returns the paths of a `use` tree, each with the name that it is imported by, or `*`.
fn leaves(prefix: &Names, tree: &[String]) -> Vec<(Names, String)> {
    let mut path = prefix.clone();
    let mut i = 0;
    while i < tree.len() {
        match tree[i].as_str() {
            "::" => {}
            "{" => {
                let inner = &tree[i + 1..closing(tree, i)];
                let parts = split(inner);
                return parts.iter().flat_map(|part| leaves(&path, part)).collect();
            }
            "*" => return vec![(path, "*".to_owned())],
            "as" => {
                let name = tree.get(i + 1).cloned().unwrap_or_default();
                return vec![(path, name)];
            }
            "self" if !path.is_empty() => {}
            name => path.push(name.to_owned()),
        }
        i += 1;
    }
    let name = path.last().cloned();
    name.map(|name| (path, name)).into_iter().collect()
}

/// Splits at commas outside of braces.
fn split(tokens: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let (mut start, mut i) = (0, 0);
    while i < tokens.len() {
        match tokens[i].as_str() {
            "{" => i = closing(tokens, i),
            "," => {
                parts.push(&tokens[start..i]);
                start = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    if start < tokens.len() {
        parts.push(&tokens[start..]);
    }
    parts
}

/// Returns the index of the brace that closes the one at `open`.
fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0_u32;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Returns the path that starts at `i`, and the index after it.
fn names(tokens: &[String], mut i: usize) -> (Names, usize) {
    let mut names = vec![tokens[i].clone()];
    while tokens.get(i + 1).is_some_and(|it| it == "::") {
        let Some(name) = tokens.get(i + 2) else { break };
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return (names, i + 2);
        }
        names.push(name.clone());
        i += 2;
    }
    (names, i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_trees_are_split_into_paths() {
        let tree = tokens("crate::{a::{self, B as C}, d::*, e}");
        let leaves = leaves(&Names::new(), &tree);
        let leaves: Vec<_> = leaves
            .iter()
            .map(|(path, name)| format!("{} {name}", path.join("::")))
            .collect();
        assert_eq!(
            leaves,
            ["crate::a a", "crate::a::B C", "crate::d *", "crate::e e"]
        );
    }

    #[test]
    fn module_has_items_imports_and_uses() {
        let source = "pub use self::a::A; use super::b; const fn c() -> d::D { e::f::<G>() } mod i { struct J; }";
        let mut crate_ = Crate::default();
        let here = Path::new("here.rs");
        crate_
            .parse(Names::new(), here, here, &tokens(source))
            .unwrap();
        let module = &crate_.0[&Names::new()];
        assert_eq!(module.items, BTreeSet::from(["c".to_owned()]));
        let uses: Vec<_> = module.uses.iter().map(|path| path.join("::")).collect();
        assert_eq!(uses, ["d::D", "e::f", "super::b"]);
        assert_eq!(module.imports["A"].join("::"), "self::a::A");
        assert!(crate_.0[&vec!["i".to_owned()]].items.contains("J"));
    }
}
