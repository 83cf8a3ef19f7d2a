//! Holds the seccomp filter that is shipped for containers against the filter of the unit: what the one
//! allows, the other must.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{read, roots::Root};

/// `root` is a system with systemd, which knows what its groups of calls are.
pub(super) fn compare(root: &Root) -> Result<()> {
    let profile = names(&read("packaging/docker/seccomp.json")?)?;
    let mut in_unit = BTreeSet::new();
    for line in filters(&read("packaging/systemd/fdwatch.service")?) {
        let (is_allowed, line) = match line.strip_prefix('~') {
            Some(line) => (false, line),
            None => (true, line),
        };
        for word in line.split_whitespace() {
            for call in calls(root, word)? {
                if is_allowed {
                    in_unit.insert(call);
                } else {
                    in_unit.remove(&call);
                }
            }
        }
    }
    let more: Vec<_> = profile.difference(&in_unit).collect();
    ensure!(
        more.is_empty(),
        "containers may call what the unit may not: {more:?}"
    );
    Ok(())
}

/// What is set for `SystemCallFilter=`, line by line.
fn filters(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
}

/// The calls that `word` stands for: one, or all of a group and of the groups in it.
fn calls(root: &Root, word: &str) -> Result<BTreeSet<String>> {
    if !word.starts_with('@') {
        return Ok(BTreeSet::from([word.to_owned()]));
    }
    let shown = root.capture(&["systemd-analyze", "--no-pager", "syscall-filter", word])?;
    let mut all = BTreeSet::new();
    for word in members(&shown) {
        all.append(&mut calls(root, word)?);
    }
    Ok(all)
}

/// What stands below the name of a group.
fn members(shown: &str) -> impl Iterator<Item = &str> {
    let lines = shown.lines().filter(|line| line.starts_with(' '));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The calls that a profile allows. All else it is to refuse.
fn names(profile: &str) -> Result<BTreeSet<String>> {
    let profile: Value = serde_json::from_str(profile).context("seccomp.json is no JSON")?;
    ensure!(
        profile["defaultAction"] == "SCMP_ACT_ERRNO",
        "seccomp.json allows what it does not tell of"
    );
    let rules = profile["syscalls"].as_array();
    let rules = rules.context("seccomp.json has no rules")?;
    let names = rules.iter().filter_map(|rule| rule["names"].as_array());
    let names = names.flatten().filter_map(Value::as_str);
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_they_are_shown() {
        let shown = "@timer\n    # Scheduling operations by time\n    alarm\n    @more\n";
        assert_eq!(members(shown).collect::<Vec<_>>(), ["alarm", "@more"]);
    }

    #[test]
    fn a_profile_is_read_for_what_it_allows() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a"]}, {"names": ["b"]}]}"#;
        let expected = ["a", "b"].map(str::to_owned);
        assert_eq!(names(profile).unwrap(), BTreeSet::from(expected));
        assert!(names(&profile.replace("ERRNO", "ALLOW")).is_err());
    }
}
