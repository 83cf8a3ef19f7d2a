//! Runs fdwatch as the container of `packaging/kubernetes/daemonset.yaml` would: with its
//! capabilities and no others, a root that cannot be written, and the kernel's trees read-only.
//!
//! It is no container: there is no seccomp filter, and nothing of a runtime's own.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{SHELL, roots::Root};
use crate::shell::say;

const MANIFEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../packaging/kubernetes/daemonset.yaml"
);

/// `$0` is the root, the arguments are what runs there. The mounts are this shell's own.
const SCRIPT: &str = r#"
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
for tree in kernel/tracing fs/bpf fs/cgroup; do
    mount --bind "/sys/$tree" "$0/sys/$tree"
    mount -o remount,bind,ro "$0/sys/$tree"
done
mount -t tmpfs -o mode=0755 tmpfs "$0/run"
mount -o remount,bind,ro "$0"
exec chroot "$0" "$@"
"#;

/// Looks what can be done in `root`, where fdwatch is installed, and watches for a moment.
pub(super) fn try_in(root: &Root) -> Result<()> {
    let manifest =
        fs::read_to_string(MANIFEST).with_context(|| format!("cannot read {MANIFEST}"))?;
    let capabilities = capabilities(&manifest);
    ensure!(!capabilities.is_empty(), "{MANIFEST} adds no capabilities");
    say(format!(
        "runs it as a container would, with {}",
        capabilities.join(", ")
    ));
    let mut bounds = "-all".to_owned();
    for capability in &capabilities {
        bounds.push_str(",+");
        bounds.push_str(&capability.to_lowercase());
    }
    let run = |command: &[&str]| {
        let mut contained = Command::new("unshare");
        contained
            .args(["--mount", "sh", "-ec", SCRIPT])
            .arg(root.path("/"))
            .args(["setpriv", "--no-new-privs", "--inh-caps=-all"])
            .arg(format!("--bounding-set={bounds}"))
            .args(command);
        SHELL.run(&mut contained)
    };
    run(&["sh", "-c", "fdwatch doctor; test $? -le 1"])?;
    run(&["fdwatch", "watch", "--duration", "3s"])?;
    // What it must not be able to: here, to write where it is.
    ensure!(
        run(&["touch", "/etc/fdwatch/written"]).is_err(),
        "the root could be written: what was tried is not what the manifest says"
    );
    Ok(())
}

/// What is in the first list of the manifest that is called `add`.
fn capabilities(manifest: &str) -> Vec<&str> {
    let listed = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "add:");
    let items = listed.skip(1).map_while(|line| line.strip_prefix("- "));
    items
        .filter_map(|item| item.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_manifests() {
        let manifest =
            "drop: [\"ALL\"]\n  add:\n    - BPF # why\n    - PERFMON\nresources:\n  - X\n";
        assert_eq!(capabilities(manifest), ["BPF", "PERFMON"]);
        assert_eq!(capabilities("add: []\n"), [""; 0]);
        let own = fs::read_to_string(MANIFEST).unwrap();
        assert!(capabilities(&own).contains(&"BPF"));
        let image = concat!("image: &image fdwatch:", env!("CARGO_PKG_VERSION"), "\n");
        assert!(own.contains(image), "the manifest runs another version");
    }
}
