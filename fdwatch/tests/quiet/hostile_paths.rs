//! A process that opens a million paths: the agent's memory and number of series stay bounded, and each file with a
//! duplicate has one finding.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use fdwatch_test_support::{Puppet, agent::Agent, bpf, eventually, fdwatch, run};

use super::alone;

/// Number of paths, each of a separate file.
const PATHS: u32 = 1_000_000;

/// Number of paths that are open twice for a moment.
const TWICE: u32 = PATHS / 50;

/// Paths per second that a debug build of the agent follows without loss.
const PACE: u32 = 20_000;

/// Limit of the growth of the agent's own memory after the first tenth.
const MAX_GROWTH: u64 = 16 << 20;

/// Creates files in `directory`, in Python. The directory must be on a file system that does not reuse inode
/// numbers.
fn define(puppet: &mut Puppet, directory: &Path) {
    let script = format!(
        "import time
def paths(first, end):
    began = time.monotonic()
    for number in range(first, end):
        if number % 1000 == 0:
            time.sleep(max(0, (number - first) / {PACE} - (time.monotonic() - began)))
        path = '{directory}/' + str(number) * 20
        fds = [os.open(path, os.O_CREAT | os.O_WRONLY)]
        if number % {every} == 0:
            fds.append(os.open(path, os.O_WRONLY))
        for fd in fds:
            os.close(fd)
        os.unlink(path)
",
        directory = directory.display(),
        every = PATHS / TWICE,
    );
    puppet.exec(&script);
}

/// Returns the agent's own memory at rest: it drops cached symbols each second.
fn memory_at_rest(agent: &Agent) -> u64 {
    let samples = (0..15).map(|_| {
        thread::sleep(Duration::from_millis(200));
        agent.own_memory()
    });
    samples.min().unwrap()
}

/// Counts its metric series, whose labels could contain paths.
fn series(agent: &Agent) -> usize {
    let metrics = agent.get("/metrics").unwrap().text();
    metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count()
}

#[test]
fn million_paths_leave_only_duplicates() {
    if !bpf() {
        return;
    }
    let _alone = alone();
    let agent = Agent::start("");
    let files = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut puppet = Puppet::start();
    define(&mut puppet, files.path());

    let mut after_a_tenth = None;
    for tenth in 0..10 {
        let (first, end) = (PATHS / 10 * tenth, PATHS / 10 * (tenth + 1));
        puppet.exec(&format!("paths({first}, {end})"));
        after_a_tenth.get_or_insert_with(|| (memory_at_rest(&agent), series(&agent)));
    }
    let (memory, numbers) = after_a_tenth.unwrap();
    let grown = memory_at_rest(&agent).saturating_sub(memory);
    println!("{} KiB, grown by {} KiB", memory >> 10, grown >> 10);
    assert!(grown < MAX_GROWTH, "grown by {grown}");
    let more = series(&agent).saturating_sub(numbers);
    assert!(more < 100, "{more} more series than before");

    let pid = puppet.pid();
    let database = agent.directory.join("state/history.db");
    let files = eventually("all duplicates in the history", || {
        let mut history = fdwatch(["history", "--json", "--limit", "1000000", "--database"]);
        history.arg(&database);
        let mut files: BTreeMap<String, u32> = BTreeMap::new();
        for line in run(history).json() {
            if line["finding"]["process"]["pid"] == pid {
                let file = &line["finding"]["file"];
                *files.entry(file["ino"].to_string()).or_default() += 1;
            }
        }
        (files.len() >= TWICE as usize).then_some(files)
    });
    assert_eq!(files.len(), TWICE as usize);
    let more_than_once = files.iter().filter(|&(_, &times)| times > 1);
    assert_eq!(more_than_once.count(), 0);

    let health = agent.json("/v1/health");
    assert_eq!((&health["lost"], &health["drift"]), (&0.into(), &0.into()));
    assert_eq!(agent.findings().len(), 0);
}
