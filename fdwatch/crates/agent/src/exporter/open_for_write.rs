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
    open_for_write::{Found, Open},
};
use fdwatch_host::proc;

/// Rows of which it is remembered that they were told.
const MAX_TOLD: usize = 16 * fdwatch_core::open_for_write::MAX;

/// How long the live loop may take to answer: it begins with a snapshot.
const ANSWER: Duration = Duration::from_secs(30);

/// What is there now, and what is mounted; nothing, if the live loop does not answer.
pub(crate) async fn look(shared: &AgentState) -> Option<(Mounts, Found)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = Mounts::of(&mountinfo);
    let devices = mounts.devices();
    if devices.is_empty() {
        return Some((mounts, Found::default()));
    }
    let (answer, answered) = oneshot::channel();
    if !shared.ask(LoopRequest::Written { devices, answer }) {
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
pub(super) struct NewRows {
    pub(crate) rows: Vec<SharedFileRow>,
    pub(crate) left_out: u64,
}

/// Looks as often as there are heartbeats, and hands on what was not told in this hour; until no one
/// takes it any more.
pub(super) async fn follow(
    shared: Arc<AgentState>,
    host: String,
    mut hours: Hours,
    to: mpsc::Sender<NewRows>,
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
        if told.open.len() > MAX_TOLD {
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
        if told.rows.len() > MAX_TOLD {
            told.rows.clear();
        }
        if to.send(NewRows { rows, left_out }).await.is_err() {
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
