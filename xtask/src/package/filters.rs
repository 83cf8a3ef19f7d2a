//! Checks that the seccomp filter for containers allows only calls that the systemd unit allows.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{roots::Root, sources::read};

/// Resolves groups of calls with the systemd in `root`.
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
    let extra: Vec<_> = profile.difference(&in_unit).collect();
    ensure!(
        extra.is_empty(),
        "seccomp.json allows calls that the unit does not: {extra:?}"
    );
    Ok(())
}

/// Returns the values of `SystemCallFilter=`.
fn filters(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
}

/// Returns the calls that `word` names: one, or all of a group, including its groups.
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

/// Returns the members of a group in the output of `systemd-analyze syscall-filter`.
fn members(shown: &str) -> impl Iterator<Item = &str> {
    let lines = shown.lines().filter(|line| line.starts_with(' '));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the calls that a seccomp profile allows. All others must be refused.
fn names(profile: &str) -> Result<BTreeSet<String>> {
    let profile: Value = serde_json::from_str(profile).context("seccomp.json is not valid JSON")?;
    ensure!(
        profile["defaultAction"] == "SCMP_ACT_ERRNO",
        "the defaultAction of seccomp.json is not SCMP_ACT_ERRNO"
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
    fn members_of_group_are_parsed() {
        let shown = "@timer\n    # Scheduling operations by time\n    alarm\n    @more\n";
        assert_eq!(members(shown).collect::<Vec<_>>(), ["alarm", "@more"]);
    }

    #[test]
    fn allowed_calls_are_parsed() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a"]}, {"names": ["b"]}]}"#;
        let expected = ["a", "b"].map(str::to_owned);
        assert_eq!(names(profile).unwrap(), BTreeSet::from(expected));
        assert!(names(&profile.replace("ERRNO", "ALLOW")).is_err());
    }
}
