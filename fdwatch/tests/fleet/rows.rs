//! Numbered findings and a writer that sends them, for the fleet's tests.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fdwatch_agent::{config::Fleet, exporter, sink::SinkStats, state::AgentState};
use fdwatch_core::{
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    model::{FileType, Moment},
    workload::Workload,
};
use fdwatch_events::event::{Event, EventKind, Key};
use fdwatch_fleet::{
    schema::SchemaOptions,
    setup,
    source::{GroupBy, Query, Source},
    store::{Address, Client},
};
use fdwatch_test_support::{DEADLINE, eventually};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use crate::clickhouse::{ClickHouse, Engine, Setup};

pub(crate) const NOW: u32 = 1_790_000_000;

/// The program of the findings that [`event`] makes.
pub(crate) const PROGRAM: &str = "app.service";

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("cannot create a runtime")
}

pub(crate) fn wanted() -> SchemaOptions {
    SchemaOptions {
        database: "fdwatch".into(),
        cluster: None,
        days: 3650,
        rollup_days: 3650,
    }
}

pub(crate) fn client(url: &str) -> Client {
    let address = Address {
        url: url.into(),
        database: "fdwatch".into(),
        ..Address::default()
    };
    Client::new(address).expect("invalid address")
}

/// Starts a server that has the tables; `None` if it is not installed.
pub(crate) fn server(directory: &Path, setup: Setup) -> Option<ClickHouse> {
    let server = ClickHouse::start_with(Engine::Debian, directory, setup)?;
    let made = runtime().block_on(setup::init(&client(&server.url()), &wanted()));
    made.expect("cannot create tables");
    Some(server)
}

/// A tmpfs of limited size, unmounted when dropped.
pub(crate) struct Small(pub(crate) PathBuf);

impl Small {
    /// Mounts one on this directory, which is created if needed.
    pub(crate) fn at(directory: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&directory).expect("cannot create a directory");
        let small = Self(directory);
        small.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        small
    }

    /// Changes its size.
    pub(crate) fn resize(&self, size: &str) {
        self.mount(&["-o", &format!("remount,size={size}")]);
    }

    /// Fills it with a file.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let full = fs::write(&ballast, vec![1; 64 << 20]);
        let full = full.expect_err("no error on a full disk");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        ballast
    }

    fn mount(&self, arguments: &[&str]) {
        let mut command = Command::new("/bin/mount");
        let done = command.args(arguments).arg(&self.0).status();
        assert!(done.is_ok_and(|it| it.success()), "{arguments:?}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("/bin/umount").arg("-l").arg(&self.0).status();
    }
}

pub(crate) fn config(url: &str, spool: &Path) -> Fleet {
    Fleet {
        url: url.into(),
        database: "fdwatch".into(),
        user: None,
        password_file: None,
        ca_file: None,
        spool: spool.to_owned(),
        most_spool_bytes: 64 << 20,
        interval: Duration::from_millis(100),
        labels: vec![("env".into(), "test".into())],
    }
}

pub(crate) fn event(number: u64) -> Event {
    let process = ProcessInfo {
        pid: 7,
        start_time: 5,
        comm: b"app".to_vec(),
        workload: Workload::of(&format!("/system.slice/{PROGRAM}")),
        ..ProcessInfo::default()
    };
    // One signature per thousand events: up to twice as many are counted exactly.
    let thousand = u8::try_from(number / 1000 % 256).expect("not a byte");
    let [high, low] = [thousand / 16, thousand % 16].map(|it| char::from(b'g' + it));
    let path = format!("/var/log/{high}{low}/{number}.log\u{0}'\"\\\n").into_bytes();
    let file = FileInfo::new(Some(path), 1, 2, FileType::Regular);
    let (cause, severity) = (Cause::Reopened, Severity::Warning);
    let finding = Finding::new(number, Change::Found, process, file, cause, severity);
    Event {
        number,
        at: Moment(number),
        wall_time: u64::from(NOW) * 1_000_000_000,
        kind: EventKind::Finding(Box::new(finding)),
        json: format!("{{\"number\":{number}}}"),
        key: Some(Key(u128::from(number))),
    }
}

/// An agent's writer in a thread.
pub(crate) struct Writer {
    sender: mpsc::Sender<Arc<Event>>,
    stop: watch::Sender<bool>,
    pub(crate) counts: Arc<SinkStats>,
    shared: Arc<AgentState>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(config: Fleet, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(100_000);
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(SinkStats::default());
        let (shared, _) = AgentState::new();
        let (kept, host, known) = (Arc::clone(&counts), host.to_owned(), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            runtime().block_on(exporter::run(config, host, receiver, kept, known, stopped));
        });
        Self {
            sender,
            stop,
            counts,
            shared,
            thread,
        }
    }

    pub(crate) fn send(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let event = Arc::new(event(number));
            self.sender.blocking_send(event).expect("no writer");
        }
    }

    pub(crate) fn wait_for(&self, delivered: u64) {
        eventually("all rows to be delivered", || {
            (self.counts.now()[2] >= delivered).then_some(())
        });
    }

    /// Waits until the agent's health has a problem of `of` that contains `part`.
    pub(crate) fn trouble(&self, of: &str, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let troubles = self.shared.troubles();
            let of_it = troubles.iter().find(|(name, _)| name == of);
            if let Some((_, reason)) = of_it.filter(|(_, reason)| reason.contains(part)) {
                return reason.clone();
            }
            assert!(Instant::now() < end, "no {part:?} of {of}: {troubles:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that no row was abandoned and no problem remains.
    pub(crate) fn assert_well(&self) {
        assert_eq!(self.counts.now()[3], 0);
        assert_eq!(self.shared.troubles(), []);
    }

    pub(crate) fn end(self) {
        self.stop.send(true).expect("no writer");
        self.thread.join().expect("the writer panicked");
    }
}

/// Counts findings by the fleet's query and as distinct rows.
pub(crate) fn counted(server: &ClickHouse) -> (u64, u64) {
    let query = Query::since(NOW - 3600, NOW, 1);
    let all = runtime().block_on(async {
        let source = Source::Server(client(&server.url()));
        source.duplicates(&query, GroupBy::Signature, 1000).await
    });
    let rows = server.query("SELECT uniqExact(host, run, number, time) FROM fdwatch.findings");
    let all = all.expect("no response from the server").shown;
    let findings = all.iter().map(|one| one.findings).sum();
    (findings, rows.trim().parse().expect("not a number"))
}

/// Returns the size of a spool's rows in bytes.
pub(crate) fn spooled(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|it| it.metadata().map_or(0, |it| it.len()));
    sizes.sum()
}
