//! Detects the devices of network file systems, whose files several hosts may have open.

use std::collections::BTreeMap;

use fdwatch_core::device::{kernel_device_of, major_minor};

/// Types of file systems whose files have the same inode on all hosts.
/// Others (`fuse.sshfs`, `fuse.rclone`, virtiofs) number files per mount, so files of two hosts cannot
/// be matched.
const NETWORK: [&str; 21] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.mfs",
    "fuse.moosefs",
    "lustre",
    "gpfs",
    "beegfs",
    "orangefs",
    "ocfs2",
    "gfs2",
    "afs",
    "coda",
];

/// The network file systems of a host, by device.
#[derive(Clone, Debug, Default)]
pub struct Mounts(BTreeMap<(u32, u32), String>);

impl Mounts {
    /// Parses the text of `/proc/self/mountinfo`.
    pub fn of(mountinfo: &str) -> Self {
        let found = mountinfo.lines().filter_map(|line| {
            // 36 35 0:52 / /srv/logs rw,noatime shared:1 - nfs4 server:/export rw
            let (before, after) = line.split_once(" - ")?;
            let (major, minor) = before.split(' ').nth(2)?.split_once(':')?;
            let mut after = after.split(' ');
            let kind = after.next()?;
            let source = after.next()?;
            let device = (major.parse().ok()?, minor.parse().ok()?);
            NETWORK
                .contains(&kind)
                .then(|| (device, source.trim_end_matches('/').to_owned()))
        });
        let mut sources = BTreeMap::new();
        for (device, source) in found {
            // Mounted parts of one export share a device. The shortest source, then the first by
            // name, is the same on all hosts, regardless of the order of the mounts.
            let chosen = sources.entry(device).or_insert_with(|| source.clone());
            if (source.len(), &source) < (chosen.len(), &*chosen) {
                *chosen = source;
            }
        }
        Self(sources)
    }

    /// Returns the source of the mount of a device that is a network file system.
    pub fn network_of(&self, device: u32) -> Option<&str> {
        self.0.get(&major_minor(device)).map(String::as_str)
    }

    /// Returns their devices in the kernel's encoding, sorted.
    pub fn devices(&self) -> Vec<u32> {
        let devices = self.0.keys().filter_map(|&device| kernel_device_of(device));
        devices.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_file_systems_are_found() {
        let mounts = Mounts::of(
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
             36 22 0:52 / /srv/logs rw,noatime shared:1 - nfs4 nas:/export/ rw,vers=4.2\n\
             37 22 0:53 / /srv/home rw - fuse.sshfs nas:/home rw\n\
             38 22 4096:1 / /odd rw - nfs nas:/odd rw\nodd",
        );
        let device = |major: u32, minor: u32| (major << 20) | minor;
        assert_eq!(mounts.network_of(device(0, 52)), Some("nas:/export"));
        assert_eq!(mounts.network_of(device(254, 0)), None);
        assert_eq!(mounts.network_of(device(0, 53)), None);
        assert_eq!(mounts.devices(), [device(0, 52)]);
    }

    #[test]
    fn mount_order_does_not_change_the_source() {
        let lines = [
            "36 22 0:52 /b /b rw - nfs4 nas:/export/b rw",
            "37 22 0:52 / /a rw - nfs4 nas:/export rw",
            "38 22 0:52 /c /c rw - nfs4 nas:/export/c rw",
        ];
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mounts = Mounts::of(&order.map(|at| lines[at]).join("\n"));
            assert_eq!(mounts.network_of(52), Some("nas:/export"));
        }
    }
}
