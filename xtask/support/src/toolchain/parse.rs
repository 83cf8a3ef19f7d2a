//! Parses the output of rustup, rustc and bpf-linker.

/// Name under which `cargo xtask setup` links the distribution's toolchain in rustup.
pub const LINKED_NAME: &str = "fdwatch-bpf";

/// Returns whether rustc `release` is new enough for this workspace.
#[must_use]
pub fn is_recent(release: &str) -> bool {
    version(release) >= version(env!("CARGO_PKG_RUST_VERSION"))
}

/// Returns the toolchains in the output of `rustup toolchain list`, best first.
pub(crate) fn installed(list: &str) -> Vec<String> {
    // Each line is a name, optionally followed by "(active, default)"; without toolchains, a sentence.
    let mut names: Vec<_> = list
        .lines()
        .filter(|line| !line.starts_with("no installed toolchains"))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.sort_by_key(|name| preference(name));
    names
}

/// Returns the sort key of a toolchain: nightly first, as it needs no `RUSTC_BOOTSTRAP`; dated and numbered toolchains,
/// which were installed for another purpose, last.
fn preference(name: &str) -> u8 {
    let dated = name
        .split('-')
        .nth(1)
        .is_some_and(|part| part.starts_with("20"));
    match name.split('-').next() {
        Some("nightly") if !dated => 0,
        _ if name == LINKED_NAME => 1,
        Some("stable") => 2,
        _ => 3,
    }
}

/// Returns the value of `key` in the output of `rustc -vV`.
#[must_use]
pub fn field<'a>(about: &'a str, key: &str) -> Option<&'a str> {
    about
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// Returns the major version in the output of LLVM's `--version`: `  LLVM version 22.1.8`, with or without a vendor.
pub(crate) fn linked_llvm(about: &str) -> Option<u32> {
    about
        .lines()
        .find_map(|line| major(line.split_once("LLVM version ")?.1))
}

/// Returns the first number of a version.
pub(crate) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_sorted_by_preference() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\n\
                    nightly-2025-11-01-x86_64-unknown-linux-gnu\n\
                    nightly-x86_64-unknown-linux-gnu\n\
                    1.95.0-x86_64-unknown-linux-gnu\n\
                    fdwatch-bpf\n";
        assert_eq!(
            installed(list),
            [
                "nightly-x86_64-unknown-linux-gnu",
                "fdwatch-bpf",
                "stable-x86_64-unknown-linux-gnu",
                "nightly-2025-11-01-x86_64-unknown-linux-gnu",
                "1.95.0-x86_64-unknown-linux-gnu",
            ]
        );
        assert!(installed("no installed toolchains\n").is_empty());
    }

    #[test]
    fn versions_are_parsed() {
        let about = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\n\
                     LLVM version: 22.1.4\n";
        assert_eq!(field(about, "release"), Some("1.97.0-nightly"));
        assert_eq!(field(about, "LLVM version").and_then(major), Some(22));
        assert_eq!(field(about, "host"), None);
        assert!(version("1.97.0-nightly") > version("1.88"));
        assert!(version("1.9.0") < version("1.88"));
        assert_eq!(
            linked_llvm("Debian LLVM version 22.1.8\n  Optimized build.\n"),
            Some(22)
        );
        assert_eq!(
            linked_llvm("LLVM (http://llvm.org/):\n  LLVM version 23.0.0git\n"),
            Some(23)
        );
        assert_eq!(linked_llvm(""), None);
    }
}
