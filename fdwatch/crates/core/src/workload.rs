//! Identity of the workload a process belongs to, derived from its cgroup: systemd unit, container,
//! pod.
//!
//! No I/O: paths are passed in. Container managers use different layouts, and anyone can create
//! groups with any name: an unrecognized name yields nothing.

/// Maximum length of a name, in characters.
const MAX_LEN: usize = 256;

/// Workload identity of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The innermost systemd service or scope.
    pub unit: Option<String>,
    /// The container.
    pub container: Option<Container>,
    /// The UID of the Kubernetes pod, with hyphens if it has any.
    pub pod_uid: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its ID; of lxc and systemd-nspawn, its name.
    pub id: String,
    /// The container manager, if the path identifies it.
    pub runtime: Option<&'static str>,
}

impl Workload {
    /// Derives the identity from the path of a cgroup.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut workload = Self::default();
        let mut before = "";
        for part in path.split('/').filter(|part| !part.is_empty()) {
            // systemd puts an underscore before names that the kernel reserves (`cg_escape`).
            let name = part.strip_prefix('_').unwrap_or(part);
            if name.ends_with(".service") || name.ends_with(".scope") {
                workload.unit = Some(bounded(name));
            }
            if let Some(container) = container(name, before) {
                workload.container = Some(container);
            }
            if let Some(uid) = pod_uid(name) {
                workload.pod_uid = Some(uid);
            }
            before = name;
        }
        workload
    }
}

/// Prefixes of container cgroups, and the managers that use them.
const PREFIXES: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
];

/// Returns the container that the cgroup `name` belongs to; `before` is the name of its parent.
fn container(name: &str, before: &str) -> Option<Container> {
    let scope = name.strip_suffix(".scope");
    let of = |id: &str, runtime| {
        Some(Container {
            id: bounded(id),
            runtime,
        })
    };
    let bare = scope.unwrap_or(name);
    for (prefix, runtime) in PREFIXES {
        // The monitor's cgroup has another word in the place of the ID.
        if let Some(id) = bare.strip_prefix(prefix).filter(|id| is_id(id)) {
            return of(id, Some(runtime));
        }
    }
    // containerd without its systemd cgroup driver: slice:prefix:id.
    if let Some((rest, id)) = name.rsplit_once(':')
        && is_id(id)
    {
        let runtime = rest.rsplit(':').next();
        return of(
            id,
            (runtime == Some("cri-containerd")).then_some("containerd"),
        );
    }
    if is_id(name) {
        let runtime = match before {
            "docker" => Some("docker"),
            "libpod_parent" => Some("podman"),
            _ => None,
        };
        let is_known = runtime.is_some() || pod_uid(before).is_some();
        return is_known.then(|| of(name, runtime)).flatten();
    }
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return of(name, Some("lxc"));
    }
    if before == "lxc" && name != ".." {
        return of(name, Some("lxc"));
    }
    let nspawn = name
        .strip_prefix("systemd-nspawn@")
        .and_then(|name| name.strip_suffix(".service"))
        .or_else(|| scope?.strip_prefix("machine-"));
    // The other scopes in machine.slice are virtual machines.
    let nspawn = nspawn.filter(|name| !name.starts_with("qemu"));
    nspawn.and_then(|name| of(&name.replace("\\x2d", "-"), Some("systemd-nspawn")))
}

/// Returns whether it is a container ID: 64 hexadecimal digits, or 32 of some early managers.
fn is_id(text: &str) -> bool {
    [64, 32].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the UID of the pod with this cgroup: `pod<uid>`, or `...-pod<uid>.slice` with
/// underscores for hyphens. The UID of a static pod is 32 digits.
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice
            .starts_with("kubepods")
            .then(|| slice.rsplit_once("-pod"))??
            .1
            .replace('_', "-"),
        None => name.split_once(".slice:").map_or_else(
            || name.strip_prefix("pod").map(str::to_owned),
            |(slice, _)| {
                slice
                    .rsplit_once("-pod")
                    .map(|(_, uid)| uid.replace('_', "-"))
            },
        )?,
    };
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_uid = digits == 32
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

fn bounded(name: &str) -> String {
    name.chars().take(MAX_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f34e5b9e9f7a0e2d4a3c1b2f0e9d8c7b6a5948372615049382716f5e4d3c2b1";
    const UID: &str = "3f2c8a5e-0b1d-4c7e-9a6f-1e2d3c4b5a69";
    const STATIC: &str = "1bc5c4a7e8f94d20a3b6c7d8e9f0a1b2";

    /// Unit, container ID with runtime, and pod.
    type Told<'a> = (
        Option<&'a str>,
        Option<(&'a str, Option<&'a str>)>,
        Option<&'a str>,
    );

    #[test]
    fn real_cgroup_paths_are_recognized() {
        let cases: &[(String, Told<'_>)] = &[
            ("/".into(), (None, None, None)),
            ("/init.scope".into(), (Some("init.scope"), None, None)),
            (
                "/system.slice/nginx.service".into(),
                (Some("nginx.service"), None, None),
            ),
            (
                r"/system.slice/system-getty.slice/getty@tty1.service".into(),
                (Some("getty@tty1.service"), None, None),
            ),
            (
                r"/system.slice/dev\x2dmapper.service/payload".into(),
                (Some(r"dev\x2dmapper.service"), None, None),
            ),
            (
                "/user.slice/user-1000.slice/session-3.scope".into(),
                (Some("session-3.scope"), None, None),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service".into(),
                (Some("app-x.service"), None, None),
            ),
            (
                format!("/docker/{ID}"),
                (None, Some((ID, Some("docker"))), None),
            ),
            (
                format!("/system.slice/docker-{ID}.scope"),
                (Some("scope"), Some((ID, Some("docker"))), None),
            ),
            (
                format!("/system.slice/docker-{ID}.scope/init.scope"),
                (Some("init.scope"), Some((ID, Some("docker"))), None),
            ),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                (Some("scope"), Some((ID, Some("podman"))), None),
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                (Some("scope"), Some((ID, Some("podman"))), None),
            ),
            (
                format!("/libpod_parent/libpod-{ID}"),
                (None, Some((ID, Some("podman"))), None),
            ),
            (
                format!("/machine.slice/libpod-conmon-{ID}.scope"),
                (Some("scope"), None, None),
            ),
            (
                format!("/kubepods/burstable/pod{UID}/{ID}"),
                (None, Some((ID, None)), Some(UID)),
            ),
            (
                format!("/kubepods/pod{STATIC}/{ID}"),
                (None, Some((ID, None)), Some(STATIC)),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
                    UID.replace('-', "_")
                ),
                (Some("scope"), Some((ID, Some("containerd"))), Some(UID)),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-pod{}.slice/crio-{ID}.scope/container",
                    UID.replace('-', "_")
                ),
                (Some("scope"), Some((ID, Some("cri-o"))), Some(UID)),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/crio-conmon-{ID}.scope",
                    UID.replace('-', "_")
                ),
                (Some("scope"), None, Some(UID)),
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-besteffort-pod{}.slice:cri-containerd:{ID}",
                    UID.replace('-', "_")
                ),
                (
                    Some("containerd.service"),
                    Some((ID, Some("containerd"))),
                    Some(UID),
                ),
            ),
            (
                format!(
                    "/system.slice/docker-{STATIC}{STATIC}.scope/kubelet.slice/kubelet-kubepods.slice/kubepods-pod{}.slice/cri-containerd-{ID}.scope",
                    UID.replace('-', "_")
                ),
                (Some("scope"), Some((ID, Some("containerd"))), Some(UID)),
            ),
            (
                "/lxc.payload.web/init.scope".into(),
                (Some("init.scope"), Some(("web", Some("lxc"))), None),
            ),
            ("/lxc/web".into(), (None, Some(("web", Some("lxc"))), None)),
            (
                "/machine.slice/systemd-nspawn@web.service/payload".into(),
                (
                    Some("systemd-nspawn@web.service"),
                    Some(("web", Some("systemd-nspawn"))),
                    None,
                ),
            ),
            (
                r"/machine.slice/machine-my\x2dweb.scope".into(),
                (
                    Some("scope"),
                    Some(("my-web", Some("systemd-nspawn"))),
                    None,
                ),
            ),
            (
                r"/machine.slice/machine-qemu\x2d1\x2dvm.scope".into(),
                (Some("scope"), None, None),
            ),
            // Similar names of unrelated cgroups.
            (format!("/x/{ID}"), (None, None, None)),
            ("/docker/short".into(), (None, None, None)),
            ("/pod/podx/pod-".into(), (None, None, None)),
        ];
        for (path, (unit, container, pod)) in cases {
            let workload = Workload::of(path);
            match unit {
                Some("scope") => {
                    let last = path.split('/').rfind(|part| part.ends_with(".scope"));
                    assert_eq!(workload.unit.as_deref(), last, "{path}");
                }
                unit => assert_eq!(workload.unit.as_deref(), *unit, "{path}"),
            }
            let found = workload.container.as_ref();
            let found = found.map(|found| (found.id.as_str(), found.runtime));
            assert_eq!(found, *container, "{path}");
            assert_eq!(workload.pod_uid.as_deref(), *pod, "{path}");
        }
    }

    #[test]
    fn names_are_truncated() {
        let long = format!("/{}.service", "ü".repeat(5000));
        let unit = Workload::of(&long).unit.unwrap();
        assert_eq!(unit.chars().count(), MAX_LEN);
    }
}
