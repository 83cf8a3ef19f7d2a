//! Regular files on given devices that processes have open for writing.

use fdwatch_common::COMM_LEN;
use rustc_hash::FxHashMap;

use crate::model::{FileType, Model};

/// Default maximum number of files listed; descriptors on further ones are only counted.
pub const MAX: usize = 4096;

/// A file that a process has open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenFile {
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The inode.
    pub ino: u64,
    /// The process.
    pub tgid: u32,
    /// When it was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
    /// One of its descriptors on the file.
    pub fd: u32,
    /// Number of its descriptors that can write the file.
    pub fds: u32,
}

/// Files that are open for writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// The files listed.
    pub open: Vec<OpenFile>,
    /// Descriptors on files that exceed the limit.
    pub left_out: u64,
}

/// Returns up to `max` files on these devices that are open for writing, once per process. Ordered
/// by process, so that a limit selects the same ones each time.
#[must_use]
pub fn open_for_writing(model: &Model, devices: &[u32], max: usize) -> OpenFiles {
    let mut found = OpenFiles::default();
    if devices.is_empty() {
        return found;
    }
    let tables = model.tables();
    let mut tables: Vec<_> = tables
        .filter_map(|table| Some((table.holders().first()?.tgid, table)))
        .collect();
    tables.sort_unstable_by_key(|&(tgid, table)| (tgid, table.address()));
    let mut places: FxHashMap<(u32, u32, u64), usize> = FxHashMap::default();
    for (tgid, table) in tables {
        for (fd, entry) in table.iter() {
            if !entry.access().writes()
                || !devices.contains(&{ entry.dev })
                || entry.file_type() != FileType::Regular
            {
                continue;
            }
            let file = (tgid, entry.dev, entry.ino);
            if let Some(&place) = places.get(&file) {
                found.open[place].fds += 1;
            } else if found.open.len() < max {
                places.insert(file, found.open.len());
                let process = model.process(tgid);
                found.open.push(OpenFile {
                    dev: entry.dev,
                    ino: entry.ino,
                    tgid,
                    start_time: process.map_or(0, |process| process.start_time),
                    comm: process.map_or([0; COMM_LEN], |process| process.comm),
                    fd,
                    fds: 1,
                });
            } else {
                found.left_out += 1;
            }
        }
    }
    found
}

impl OpenFile {
    /// Returns the same file with `fds` cleared, for comparisons.
    #[must_use]
    pub const fn without_count(self) -> Self {
        Self { fds: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_host::{Host, LOG, O_WRONLY};

    #[test]
    fn finds_writable_files_on_given_devices() {
        let mut host = Host::new();
        host.open(7, 3, 103, O_WRONLY);
        host.open(7, 4, 104, O_WRONLY);
        host.open_inode(7, 5, 105, 0, LOG + 1);
        host.accept(7, 6, 106);
        host.open(5, 3, 203, O_WRONLY);
        let device = host.model.table_of(7).unwrap().get(3).unwrap().dev;
        let found = open_for_writing(&host.model, &[device], MAX);
        let shown: Vec<_> = found
            .open
            .iter()
            .map(|it| (it.tgid, it.ino, it.fds))
            .collect();
        assert_eq!(shown, [(5, LOG, 1), (7, LOG, 2)]);
        assert_eq!(found.left_out, 0);
        // Above the limit, the selection is stable and the rest is counted.
        let found = open_for_writing(&host.model, &[device], 1);
        assert_eq!((found.open[0].tgid, found.open.len()), (5, 1));
        assert_eq!(found.left_out, 2);
        assert_eq!(
            open_for_writing(&host.model, &[device + 1], MAX),
            OpenFiles::default()
        );
        assert_eq!(
            open_for_writing(&host.model, &[], MAX),
            OpenFiles::default()
        );
    }
}
