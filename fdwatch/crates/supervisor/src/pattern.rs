//! Patterns of file names, as in Python's `glob` and glob(3): `*`, `?` and `[...]` in each component of
//! a path.

use glob::{MatchOptions, Pattern};

/// Returns whether a component contains wildcards.
pub fn is_pattern(component: &str) -> bool {
    component.contains(['*', '?', '['])
}

/// Compiles a component of a pattern; returns `None` if it only matches itself.
pub fn component_pattern(component: &str) -> Option<Pattern> {
    let mut single = component.to_owned();
    while single.contains("**") {
        single = single.replace("**", "*");
    }
    // An unclosed bracket matches itself.
    Pattern::new(&single).ok()
}

/// Returns whether a name matches a component of a pattern.
pub fn component_matches(pattern: Option<&Pattern>, component: &str, name: &str) -> bool {
    const OPTIONS: MatchOptions = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    match pattern {
        Some(pattern) => pattern.matches_with(name, OPTIONS),
        None => component == name,
    }
}

/// Returns whether a path matches a pattern, component by component.
#[must_use]
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let parts = |path: &'_ str| path.split('/').filter(|part| !part.is_empty()).count();
    if parts(pattern) != parts(path) || pattern.starts_with('/') != path.starts_with('/') {
        return false;
    }
    let components = pattern.split('/').filter(|part| !part.is_empty());
    let names = path.split('/').filter(|part| !part.is_empty());
    components.zip(names).all(|(component, name)| {
        let compiled = component_pattern(component);
        component_matches(compiled.as_ref(), component, name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_do_not_match_slashes() {
        for (pattern, path, matches) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/a/b.log", false),
            ("/var/log/*/*.log", "/var/log/a/b.log", true),
            ("/var/log/*.log", "/var/log/.a.log", false),
            ("/var//log/a?log", "/var/log/a.log", true),
            ("/var/log/[ab].log", "/var/log/b.log", true),
            ("/var/log/a[.log", "/var/log/a[.log", true),
            ("/var/log/a.log", "/var/log/a.log", true),
            ("var/log/a.log", "/var/log/a.log", false),
        ] {
            assert_eq!(path_matches(pattern, path), matches, "{pattern} {path}");
        }
    }
}
