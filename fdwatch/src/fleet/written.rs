//! Which files of network file systems are open for writing on this host: that another host has the
//! same one open is known to the fleet alone.
//!
//! `open_for_writing` is pure: the live loop, which has the tables, goes through them when it is
//! asked, and not at all where nothing is mounted over a network. What /proc adds is asked by who
//! asked the loop. The files themselves are never touched, as their server may not answer.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    sync::Arc,
    time::Duration,
};

use fdwatch_common::COMM_LEN;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    network::Mounts,
    rows::{SharedFileRow, bounded},
    signature::Program,
    writer::{HEARTBEAT, Hours},
};
use crate::{
    agent::shared::{Question, Shared},
    diagnose::ProcessInfo,
    model::{FileType, Model},
    proc,
};

/// Files of processes that are told of, at the most: descriptors beyond are counted.
pub(crate) const MOST: usize = 4096;

/// Rows of which it is remembered that they were told.
const MOST_TOLD: usize = 16 * MOST;

/// How long the live loop may take to answer: it begins with a snapshot.
const ANSWER: Duration = Duration::from_secs(30);

/// A file that a process has open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The device, in the kernel's own encoding.
    pub dev: u32,
    /// The inode.
    pub ino: u64,
    /// The process.
    pub tgid: u32,
    /// Its start: nanoseconds since boot, 0 if not known.
    pub start_time: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
    /// One of its descriptors on the file.
    pub fd: u32,
    /// How many there are that may write.
    pub fds: u32,
}

/// What is open, and how many descriptors more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is told.
    pub open: Vec<Open>,
    /// Descriptors beyond.
    pub left_out: u64,
}

/// The files on these devices that are open for writing, of each process those it has, up to `most`:
/// by the numbers of processes, so that it is the same ones each time.
pub(crate) fn open_for_writing(model: &Model, devices: &[u32], most: usize) -> Found {
    let mut found = Found::default();
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
        for (fd, slot) in table.iter() {
            if !slot.access().writes()
                || !devices.contains(&{ slot.dev })
                || slot.file_type() != FileType::Regular
            {
                continue;
            }
            let file = (tgid, slot.dev, slot.ino);
            if let Some(&place) = places.get(&file) {
                found.open[place].fds += 1;
            } else if found.open.len() < most {
                places.insert(file, found.open.len());
                let process = model.process(tgid);
                found.open.push(Open {
                    dev: slot.dev,
                    ino: slot.ino,
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

/// What is there now, and what is mounted; nothing, if the live loop does not answer.
pub(crate) async fn look(shared: &Shared) -> Option<(Mounts, Found)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = Mounts::of(&mountinfo);
    let devices = mounts.devices();
    if devices.is_empty() {
        return Some((mounts, Found::default()));
    }
    let (answer, answered) = oneshot::channel();
    if !shared.ask(Question::Written { devices, answer }) {
        return None;
    }
    let found = timeout(ANSWER, answered).await.ok()?.ok()?;
    Some((mounts, found))
}

/// With what /proc says: by file and program. What has ended meanwhile is left out.
pub(crate) fn rows(open: &[Open], mounts: &Mounts, host: &str, time: u32) -> Vec<SharedFileRow> {
    let mut programs: FxHashMap<(u32, u64), Option<String>> = FxHashMap::default();
    let mut rows: BTreeMap<(&str, u64, String), SharedFileRow> = BTreeMap::new();
    for one in open {
        let Some(network) = mounts.network_of(one.dev) else {
            continue;
        };
        let program = programs.entry((one.tgid, one.start_time));
        let program = program.or_insert_with(|| program_of(one, host));
        let Some(program) = program.clone() else {
            continue;
        };
        let row = rows.entry((network, one.ino, program));
        let (_, ino, program) = row.key().clone();
        let row = row.or_insert_with(|| SharedFileRow {
            time,
            network: network.to_owned(),
            ino,
            host: host.to_owned(),
            program,
            ..SharedFileRow::default()
        });
        row.writers = row.writers.saturating_add(one.fds);
        if row.file.is_empty()
            && let Some(path) = proc::path_of(one.tgid, one.fd, one.ino)
        {
            row.file = bounded(&path);
        }
    }
    rows.into_values().collect()
}

fn program_of(one: &Open, host: &str) -> Option<String> {
    let process = proc::process(one.tgid, one.start_time).or_else(|| {
        // It is hidden, or has ended.
        let comm = one.comm.split(|&byte| byte == 0).next()?.to_vec();
        let is_hidden = proc::exists(one.tgid) && !comm.is_empty();
        is_hidden.then(|| ProcessInfo {
            pid: one.tgid,
            comm,
            ..ProcessInfo::default()
        })
    })?;
    Some(Program::of_process(&process, host).to_string())
}

/// What there is new to tell.
#[derive(Debug)]
pub(super) struct News {
    pub(crate) rows: Vec<SharedFileRow>,
    pub(crate) left_out: u64,
}

/// Looks as often as there are heartbeats, and hands on what was not told in this hour; until no one
/// takes it any more.
pub(super) async fn follow(
    shared: Arc<Shared>,
    host: String,
    mut hours: Hours,
    to: mpsc::Sender<News>,
) {
    let mut looks = interval(HEARTBEAT);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = ToldOf::default();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = to.closed() => return,
        }
        let now = proc::wall_time() / 1_000_000_000;
        if hours.is_another(now) {
            told = ToldOf::default();
        }
        let Some((mounts, Found { mut open, left_out })) = look(&shared).await else {
            tracing::debug!(
                "what is open on network file systems is not known: there is no answer"
            );
            continue;
        };
        open.retain(|one| told.open.insert((*one).without_count()));
        if told.open.len() > MOST_TOLD {
            told.open.clear();
        }
        let host = host.clone();
        let time = u32::try_from(now).unwrap_or(u32::MAX);
        let rows = tokio::task::spawn_blocking(move || rows(&open, &mounts, &host, time));
        let mut rows = rows.await.unwrap_or_default();
        rows.retain(|row| {
            let row = (row.network.clone(), row.ino, row.program.clone());
            told.rows.insert(row)
        });
        if told.rows.len() > MOST_TOLD {
            told.rows.clear();
        }
        if to.send(News { rows, left_out }).await.is_err() {
            return;
        }
    }
}

/// What was told in this hour. Where there is too much of it, it is forgotten, and told again.
#[derive(Default)]
struct ToldOf {
    open: HashSet<Open>,
    rows: HashSet<(String, u64, String)>,
}

impl Open {
    /// The same, however many descriptors there are.
    const fn without_count(self) -> Self {
        Self { fds: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_host::{Host, LOG, O_WRONLY};

    #[test]
    fn only_what_may_be_written_on_these_devices_is_found() {
        let mut host = Host::new();
        host.open(7, 3, 103, O_WRONLY);
        host.open(7, 4, 104, O_WRONLY);
        host.open_inode(7, 5, 105, 0, LOG + 1);
        host.accept(7, 6, 106);
        host.open(5, 3, 203, O_WRONLY);
        let device = host.model.table_of(7).unwrap().get(3).unwrap().dev;
        let found = open_for_writing(&host.model, &[device], MOST);
        let shown: Vec<_> = found
            .open
            .iter()
            .map(|it| (it.tgid, it.ino, it.fds))
            .collect();
        assert_eq!(shown, [(5, LOG, 1), (7, LOG, 2)]);
        assert_eq!(found.left_out, 0);
        // Of what is too much as much is told, the same each time, and the rest counted.
        let found = open_for_writing(&host.model, &[device], 1);
        assert_eq!((found.open[0].tgid, found.open.len()), (5, 1));
        assert_eq!(found.left_out, 2);
        assert_eq!(
            open_for_writing(&host.model, &[device + 1], MOST),
            Found::default()
        );
        assert_eq!(open_for_writing(&host.model, &[], MOST), Found::default());
    }
}
