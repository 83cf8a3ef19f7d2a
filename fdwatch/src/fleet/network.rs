//! Which devices are network file systems: the same file is open on several hosts there.
//!
//! Pure: the kernel's list of mounts is handed in.

use std::collections::BTreeMap;

use crate::proc::major_minor;

/// Types of file systems whose files several hosts have.
const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "fuse.ceph",
    "fuse.glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ocfs2",
    "gfs2",
    "afs",
];

/// The network file systems of a host, by device.
#[derive(Debug, Default)]
pub(crate) struct Mounts(BTreeMap<(u32, u32), String>);

impl Mounts {
    /// Those in `/proc/self/mountinfo`.
    pub(crate) fn of(mountinfo: &str) -> Self {
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
        Self(found.collect())
    }

    /// What is mounted from that device, if it is a network file system.
    pub(crate) fn network_of(&self, device: u32) -> Option<&str> {
        self.0.get(&major_minor(device)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_device() {
        let mounts = Mounts::of(
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
             36 22 0:52 / /srv/logs rw,noatime shared:1 - nfs4 nas:/export/ rw,vers=4.2\nodd",
        );
        let device = |major: u32, minor: u32| (major << 20) | minor;
        assert_eq!(mounts.network_of(device(0, 52)), Some("nas:/export"));
        assert_eq!(mounts.network_of(device(254, 0)), None);
    }
}
