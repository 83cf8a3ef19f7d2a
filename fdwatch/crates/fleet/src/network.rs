//! Which devices are network file systems: the same file is open on several hosts there.
//!
//! Pure: the kernel's list of mounts is handed in.

use std::collections::BTreeMap;

use fdwatch_core::device::{kernel_device_of, major_minor};

/// Types of file systems whose files several hosts have, each by the same inode on all of them.
/// Others that come over a network number files as each mount pleases (`fuse.sshfs`, `fuse.rclone`,
/// virtiofs), so that nothing tells which files of two hosts are one.
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
    /// Those in `/proc/self/mountinfo`.
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
            // Parts of one export are one device, in the order they were mounted in: that of the
            // whole is what hosts have in common, or the first by name.
            let known = sources.entry(device).or_insert_with(|| source.clone());
            if (source.len(), &source) < (known.len(), &*known) {
                *known = source;
            }
        }
        Self(sources)
    }

    /// What is mounted from that device, if it is a network file system.
    pub fn network_of(&self, device: u32) -> Option<&str> {
        self.0.get(&major_minor(device)).map(String::as_str)
    }

    /// Their devices, in the kernel's own encoding, in order.
    pub fn devices(&self) -> Vec<u32> {
        let devices = self.0.keys().filter_map(|&device| kernel_device_of(device));
        devices.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_device() {
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
    fn parts_of_one_export_have_one_name_whatever_was_mounted_first() {
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
