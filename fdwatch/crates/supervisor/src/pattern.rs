//! Patterns of file names, as Python's `glob` and glob(3) have them: `*`, `?` and `[...]` in each part
//! between slashes. Pure: which names there are is not known here.

use glob::{MatchOptions, Pattern};

/// Whether a part of a pattern matches more than itself.
pub fn is_pattern(component: &str) -> bool {
    component.contains(['*', '?', '['])
}

/// A part of a pattern between slashes; none if it is no pattern but for its characters.
pub fn component_pattern(component: &str) -> Option<Pattern> {
    let mut single = component.to_owned();
    while single.contains("**") {
        single = single.replace("**", "*");
    }
    // A bracket that is not closed stands for itself.
    Pattern::new(&single).ok()
}

/// Whether a name matches a part of a pattern.
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

/// Whether a path matches a pattern.
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
    fn stars_end_at_slashes() {
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
