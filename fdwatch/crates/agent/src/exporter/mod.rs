//! Exports findings to the fleet's server, through a spool on disk and in order.
//!
//! Events become rows as they arrive; at each interval the rows become a frame of the spool, and the oldest frames a
//! request. The server may be unreachable for as long as the disk has room. Dropped rows are counted and reported in
//! each heartbeat.

mod hours;
pub mod open_for_write;
mod queue;
mod send;
pub mod spool;

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};

use self::{
    hours::{HEARTBEAT, HOUR, Hours},
    open_for_write::NewRows,
    queue::{Queue, SPOOL},
    send::{SERVER, Server, send},
};
use crate::{config::Fleet, sink::SinkStats, state::AgentState};
use fdwatch_core::plural::{counted, either};
use fdwatch_events::event::{Event, EventKind};
use fdwatch_fleet::{
    network::Mounts,
    rows::{HeartbeatRow, Origin, ReportedFinding as FindingEvent, Table, add_line},
    signature::Signature,
};
use fdwatch_host::proc;

/// Size limit of rows that wait for the next frame: bytes.
const MAX_WAITING: usize = 1 << 20;

/// Delay of the first heartbeat: before the agent's first snapshot all of its values would be zero.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(5);

/// Signatures for which the hour of the last example is remembered.
const MAX_EXAMPLES: usize = 4096;

/// Time to send the remaining rows when the exporter stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Exports until `stop`, then sends the remaining rows for a few seconds. The rest stays in the spool.
pub async fn run(
    config: Fleet,
    host: String,
    mut receiver: mpsc::Receiver<Arc<Event>>,
    counts: Arc<SinkStats>,
    shared: Arc<AgentState>,
    mut stop: watch::Receiver<bool>,
) {
    let config = Arc::new(config);
    let queue = Arc::new(Queue::open(
        &config,
        Arc::clone(&counts),
        Arc::clone(&shared),
    ));
    let run = proc::wall_time();
    let server = Server::new(Arc::clone(&config), Arc::clone(&shared));
    let mut hours = Hours::new(&host, run / 1_000_000_000);
    let (to, mut new_rows) = mpsc::channel(1);
    let following = open_for_write::follow(Arc::clone(&shared), host.clone(), hours, to);
    let following = tokio::spawn(following);
    let mut rows = Rows::new(Origin::new(host, &config.labels, run), shared);
    let (end, ended) = watch::channel(false);
    let sender = tokio::spawn(send(server, Arc::clone(&queue), ended));
    let every = |period: Duration, first: Duration| {
        let mut interval = interval_at(Instant::now() + first, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let period = config.interval.max(Duration::from_millis(100));
    let mut frames = every(period, period);
    let mut heartbeats = every(HEARTBEAT, FIRST_HEARTBEAT);
    let mut active_reports = every(Duration::from_secs(60), Duration::from_secs(60));
    loop {
        tokio::select! {
            event = receiver.recv() => match event {
                Some(event) => rows.add(&event),
                None => break,
            },
            _ = frames.tick() => {
                rows.append(&queue).await;
                queue.sync().await;
            }
            _ = heartbeats.tick() => rows.heartbeat(&queue),
            _ = active_reports.tick() => {
                if hours.is_due(proc::wall_time() / 1_000_000_000) {
                    rows.add_active();
                }
            }
            Some(new_rows) = new_rows.recv() => rows.add_files(&new_rows),
            _ = stop.wait_for(|stop| *stop) => break,
        }
        if rows.waiting() > MAX_WAITING {
            rows.append(&queue).await;
        }
    }
    following.abort();
    while let Ok(event) = receiver.try_recv() {
        rows.add(&event);
    }
    rows.heartbeat(&queue);
    rows.append(&queue).await;
    queue.sync().await;
    let _ = end.send(true);
    // The rest is sent after the next start.
    let aborting = sender.abort_handle();
    if tokio::time::timeout(STOP_TIMEOUT, sender).await.is_err() {
        aborting.abort();
    }
    queue.close().await;
}

/// Clears the problems of an exporter that is no longer configured.
pub fn clear_troubles(shared: &AgentState) {
    for of in [SERVER, SPOOL] {
        shared.set_trouble(of, None);
    }
}

/// Converts events to rows.
struct Rows {
    origin: Origin,
    shared: Arc<AgentState>,
    mounts: Mounts,
    mounts_read: u64,
    /// Lines and their number, by table.
    lines: [(Vec<u8>, u64); Table::ALL.len()],
    /// The hour in which an example of a signature was last sent.
    examples: HashMap<String, u64>,
    kernel: String,
    files_left_out: u64,
}

impl Rows {
    fn new(origin: Origin, shared: Arc<AgentState>) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            origin,
            shared,
            mounts: Mounts::default(),
            mounts_read: 0,
            lines: Default::default(),
            examples: HashMap::new(),
            kernel: kernel.trim().to_owned(),
            files_left_out: 0,
        }
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|(lines, _)| lines.len()).sum()
    }

    fn push(&mut self, table: Table, row: &impl serde::Serialize) {
        let (lines, count) = &mut self.lines[table as usize];
        if add_line(lines, row).is_ok() {
            *count += 1;
        }
    }

    fn add(&mut self, event: &Event) {
        self.add_at(event, event.wall_time / 1_000_000_000, false);
    }

    fn add_at(&mut self, event: &Event, time: u64, is_still: bool) {
        let (EventKind::Finding(finding), Some(key)) = (&event.kind, event.key) else {
            return;
        };
        self.read_mounts(time);
        let signature = Signature::of(finding, &self.origin.host);
        let seconds = u32::try_from(time).unwrap_or(u32::MAX);
        let row_event = FindingEvent {
            finding,
            key,
            number: event.number,
            time: seconds,
            is_still,
        };
        let row = self.origin.finding(&row_event, &signature, &self.mounts);
        self.push(Table::Findings, &row);
        let hour = time / HOUR;
        if self.examples.get(&signature.id) != Some(&hour) {
            if let Some(example) = self.origin.example(seconds, &signature, &event.json) {
                self.push(Table::Examples, &example);
            }
            if self.examples.len() >= MAX_EXAMPLES {
                self.examples.clear();
            }
            self.examples.insert(signature.id, hour);
        }
    }

    /// Reads the mounts, at most once a minute.
    fn read_mounts(&mut self, time: u64) {
        if time.abs_diff(self.mounts_read) >= 60
            && let Ok(text) = fs::read_to_string("/proc/self/mountinfo")
        {
            self.mounts = Mounts::of(&text);
            self.mounts_read = time;
        }
    }

    /// Adds rows of all active findings.
    fn add_active(&mut self) {
        let now = proc::wall_time() / 1_000_000_000;
        for active in self.shared.active() {
            self.add_at(&active.last, now, true);
        }
    }

    /// Adds rows of files on network file systems that are open for writing.
    fn add_files(&mut self, new_rows: &NewRows) {
        for row in &new_rows.rows {
            self.push(Table::SharedFiles, row);
        }
        if new_rows.left_out > 0 && self.files_left_out == 0 {
            tracing::warn!(
                "too many files of network file systems are open for writing: {} {} not reported to the fleet \
                 (fdwatch fleet shared), {} reported",
                counted(new_rows.left_out, "descriptor"),
                either(&new_rows.left_out, "is", "are"),
                fdwatch_core::open_for_write::MAX
            );
        }
        self.files_left_out = new_rows.left_out;
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "seconds until 2106, and counts of processes and findings"
    )]
    fn heartbeat(&mut self, queue: &Queue) {
        let view = self.shared.view();
        let stats = &view.stats;
        let drift = stats.statistics.drift;
        let row = HeartbeatRow {
            time: (proc::wall_time() / 1_000_000_000) as u32,
            host: self.origin.host.clone(),
            labels: self.origin.labels.clone(),
            run: self.origin.run,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.kernel.clone(),
            mode: stats.shedding.name().to_owned(),
            events: stats.statistics.events(),
            lost: stats.lost_in_all(),
            drift: drift.missing + drift.phantom + drift.wrong_file + drift.close_on_exec,
            not_followed: view.not_followed as u32,
            cpu: view.used_percent,
            memory: view.rss,
            findings: self.shared.active().len() as u32,
            spooled: queue.spooled(),
            dropped: queue.dropped(),
            files_left_out: self.files_left_out,
        };
        self.push(Table::Heartbeats, &row);
    }

    /// Appends the waiting rows to the spool.
    async fn append(&mut self, queue: &Arc<Queue>) {
        for table in Table::ALL {
            let (lines, count) = std::mem::take(&mut self.lines[table as usize]);
            if count > 0 {
                queue.append(table, lines, count).await;
            }
        }
    }
}
