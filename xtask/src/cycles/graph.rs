//! Dependencies between the modules of a crate, and their cycles.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::source::{Crate, Names};

/// Maximum number of re-exports that are followed, in case they form a cycle.
const MAX_REEXPORTS: u32 = 16;

/// For each module, the modules that it uses, and the names of the used items.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    crate_: &'a Crate,
    edges: BTreeMap<&'a Names, BTreeMap<&'a Names, BTreeSet<String>>>,
}

/// Modules that all depend on each other.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) modules: Vec<Names>,
    pub(super) edges: Vec<Edge>,
}

/// A dependency within a cycle.
#[derive(Debug)]
pub(super) struct Edge {
    /// The file of the dependent module.
    pub(super) file: PathBuf,
    /// The module that it uses.
    pub(super) to: String,
    /// The items that it uses.
    pub(super) names: Vec<String>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(crate_: &'a Crate) -> Self {
        let mut graph = Self {
            crate_,
            edges: BTreeMap::new(),
        };
        for (path, module) in &crate_.0 {
            let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
            for used in &module.uses {
                if let Some((to, name)) = graph.resolve(path, used, MAX_REEXPORTS)
                    && to != path
                {
                    edges.entry(to).or_default().insert(name);
                }
            }
            graph.edges.insert(path, edges);
        }
        graph
    }

    /// Returns the module that defines what `used` names in the module `at`, and its name there.
    fn resolve(&self, at: &'a Names, used: &[String], depth: u32) -> Option<(&'a Names, String)> {
        let (mut module, mut rest) = match used {
            [first, rest @ ..] if first == "crate" => (self.key(&[])?, rest),
            [first, rest @ ..] if first == "self" => (at, rest),
            [first, ..] if first == "super" => {
                let count = used.iter().take_while(|it| *it == "super").count();
                let length = at.len().checked_sub(count)?;
                (self.key(&at[..length])?, &used[count..])
            }
            _ => (at, used),
        };
        while let [name, tail @ ..] = rest {
            let child = [&module[..], std::slice::from_ref(name)].concat();
            if let Some(child) = self.key(&child) {
                module = child;
                rest = tail;
                continue;
            }
            return self.find(module, name, tail, depth);
        }
        // A module itself: items that are used from it have their own paths.
        None
    }

    /// Returns the module that defines `name`, which is named in `module`, or the item `tail` below it.
    fn find(
        &self,
        module: &'a Names,
        name: &str,
        tail: &[String],
        depth: u32,
    ) -> Option<(&'a Names, String)> {
        let content = &self.crate_.0[module];
        let is_glob = name == "*" && !content.items.is_empty();
        if is_glob || content.items.contains(name) {
            return Some((module, name.to_owned()));
        }
        let depth = depth.checked_sub(1)?;
        if let Some(import) = content.imports.get(name) {
            // `use a;` of another crate imports itself.
            if import.first().is_some_and(|first| first == name) {
                return None;
            }
            return self.resolve(module, &[&import[..], tail].concat(), depth);
        }
        content.globs.iter().find_map(|glob| {
            let path = [&glob[..], &[name.to_owned()], tail].concat();
            self.resolve(module, &path, depth)
        })
    }

    fn key(&self, path: &[String]) -> Option<&'a Names> {
        self.crate_.0.get_key_value(path).map(|(path, _)| path)
    }

    /// Returns the cycles: sets of modules, each of which reaches all others of its set.
    pub(super) fn cycles(&self) -> Vec<Cycle> {
        let reached: BTreeMap<_, _> = self
            .edges
            .keys()
            .map(|path| (*path, self.reached(path)))
            .collect();
        let mut cycles = Vec::new();
        let mut seen: BTreeSet<&Names> = BTreeSet::new();
        for (path, to) in &reached {
            if !to.contains(path) || seen.contains(path) {
                continue;
            }
            let modules = to.iter().filter(|other| reached[*other].contains(path));
            let modules: BTreeSet<_> = modules.copied().collect();
            seen.extend(&modules);
            cycles.push(self.cycle(&modules));
        }
        cycles
    }

    /// Returns the modules that `from` depends on, directly or not.
    fn reached(&self, from: &'a Names) -> BTreeSet<&'a Names> {
        let mut reached = BTreeSet::new();
        let mut pending = vec![from];
        while let Some(path) = pending.pop() {
            let next = self.edges[path].keys().copied();
            pending.extend(next.filter(|next| reached.insert(*next)));
        }
        reached
    }

    fn cycle(&self, modules: &BTreeSet<&'a Names>) -> Cycle {
        let mut edges = Vec::new();
        for from in modules {
            for (to, names) in &self.edges[*from] {
                if modules.contains(to) {
                    edges.push(Edge {
                        file: self.crate_.0[*from].file.clone(),
                        to: format!("crate::{}", to.join("::")),
                        names: names.iter().cloned().collect(),
                    });
                }
            }
        }
        Cycle {
            modules: modules.iter().map(|path| (*path).clone()).collect(),
            edges,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use xtask_support::temp::TempDir;

    use super::*;

    /// Returns the cycles of a crate with these files.
    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let directory = TempDir::new("xtask-cycles-").unwrap();
        for (name, source) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, source).unwrap();
        }
        let crate_ = Crate::read(&directory.path().join("lib.rs")).unwrap();
        let cycles = Graph::of(&crate_).cycles();
        let shown = |cycle: &Cycle| {
            let modules = cycle.modules.iter().map(|path| path.join("::"));
            modules.collect::<Vec<_>>().join(" ")
        };
        cycles.iter().map(shown).collect()
    }

    #[test]
    fn siblings_that_use_each_other_are_a_cycle() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B; fn b() { super::a::A }"),
            ("c.rs", "use super::{a, b}; fn c(_: a::A, _: b::B) {}"),
        ];
        assert_eq!(cycles(&files), ["a b"]);
    }

    #[test]
    fn reexports_are_no_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            (
                "a/mod.rs",
                "mod x; mod y; pub use self::x::*; pub(crate) use y::Y;",
            ),
            ("a/x.rs", "use super::Y; pub struct X(Y);"),
            ("a/y.rs", "pub struct Y;"),
        ];
        assert_eq!(cycles(&files), [""; 0]);
    }

    #[test]
    fn child_that_uses_items_of_its_user_is_a_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            (
                "a.rs",
                "mod x; use self::x::X; const LIMIT: u8 = 1; fn a(_: X) {}",
            ),
            ("a/x.rs", "pub struct X([u8; super::LIMIT]);"),
        ];
        assert_eq!(cycles(&files), ["a a::x"]);
    }

    #[test]
    fn reexport_that_is_used_is_a_dependency() {
        let files = [
            ("lib.rs", "mod a;"),
            (
                "a.rs",
                "mod x; pub use self::x::X; pub struct A; fn a(_: X) {}",
            ),
            ("a/x.rs", "pub struct X(super::A);"),
        ];
        assert_eq!(cycles(&files), ["a a::x"]);
    }

    #[test]
    fn uses_in_tests_are_ignored() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
            ),
            ("b.rs", "use crate::a::A; pub struct B(A);"),
        ];
        assert_eq!(cycles(&files), [""; 0]);
    }
}
