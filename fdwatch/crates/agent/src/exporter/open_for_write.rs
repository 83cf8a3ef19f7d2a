//! Files of network file systems that are open for writing on this host. Only the fleet shows whether another host
//! has the same file open.
//!
//! The live loop, which owns the tables, searches them on request, and only if a network file system is mounted.
//! /proc is read by the requester. The files themselves are never accessed, because their server may not respond.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use fdwatch_fleet::{
    network::Mounts,
    rows::{SharedFileRow, bounded},
    signature::Program,
};

use super::hours::{HEARTBEAT, Hours};
use crate::state::{AgentState, LoopRequest};
use fdwatch_core::{
    diagnose::ProcessInfo,
    open_for_write::{OpenFile, OpenFiles},
};
use fdwatch_host::proc;

/// Limit of rows that are remembered as reported.
const MAX_REPORTED: usize = 16 * fdwatch_core::open_for_write::MAX;

/// Time in which the live loop must reply. At the start it is busy with a snapshot.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the mounts, and the files on them that are open for writing; `None` if the live loop does not reply.
pub(crate) async fn search(agent: &AgentState) -> Option<(Mounts, OpenFiles)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = Mounts::of(&mountinfo);
    let devices = mounts.devices();
    if devices.is_empty() {
        return Some((mounts, OpenFiles::default()));
    }
    let (reply, replied) = oneshot::channel();
    if !agent.send_request(LoopRequest::OpenForWrite { devices, reply }) {
        return None;
    }
    let found = timeout(REPLY_TIMEOUT, replied).await.ok()?.ok()?;
    Some((mounts, found))
}

/// Converts open files to rows by file and program, with the path from /proc. Omits processes that have exited.
pub(crate) fn rows(
    open: &[OpenFile],
    mounts: &Mounts,
    host: &str,
    time: u32,
) -> Vec<SharedFileRow> {
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

fn program_of(one: &OpenFile, host: &str) -> Option<String> {
    let process = proc::process(one.tgid, one.start_time).or_else(|| {
        // Hidden, or exited.
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

/// Rows that were not reported in this hour yet.
#[derive(Debug)]
pub(super) struct NewRows {
    pub(crate) rows: Vec<SharedFileRow>,
    pub(crate) left_out: u64,
}

/// Searches at the interval of heartbeats, and sends the rows that were not reported in this hour, until the receiver
/// is dropped.
pub(super) async fn follow(
    agent: Arc<AgentState>,
    host: String,
    mut hours: Hours,
    to: mpsc::Sender<NewRows>,
) {
    let mut searches = interval(HEARTBEAT);
    searches.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = Reported::default();
    loop {
        tokio::select! {
            _ = searches.tick() => {}
            () = to.closed() => return,
        }
        let now = proc::wall_time() / 1_000_000_000;
        if hours.is_due(now) {
            reported = Reported::default();
        }
        let Some((mounts, OpenFiles { mut open, left_out })) = search(&agent).await else {
            tracing::debug!(
                "cannot list files of network file systems: the live loop does not reply"
            );
            continue;
        };
        open.retain(|one| reported.open.insert((*one).without_count()));
        if reported.open.len() > MAX_REPORTED {
            reported.open.clear();
        }
        let host = host.clone();
        let time = u32::try_from(now).unwrap_or(u32::MAX);
        let rows = tokio::task::spawn_blocking(move || rows(&open, &mounts, &host, time));
        let mut rows = rows.await.unwrap_or_default();
        rows.retain(|row| {
            let row = (row.network.clone(), row.ino, row.program.clone());
            reported.rows.insert(row)
        });
        if reported.rows.len() > MAX_REPORTED {
            reported.rows.clear();
        }
        if to.send(NewRows { rows, left_out }).await.is_err() {
            return;
        }
    }
}

/// What was reported in this hour. Above the limit it is cleared, so that rows are reported again.
#[derive(Default)]
struct Reported {
    open: HashSet<OpenFile>,
    rows: HashSet<(String, u64, String)>,
}
