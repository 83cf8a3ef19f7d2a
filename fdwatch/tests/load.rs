//! Under load nothing is lost that there is room for; and what is lost is told.

mod common;

use std::{
    fs::File,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{Puppet, Watch};

/// Opens and closes a file as fast as one core goes. It is open nowhere else: a duplicate would have detail
/// asked for, and that is another load.
fn open_and_close(duration: Duration) -> u64 {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    let file = file.into_temp_path();
    let end = Instant::now() + duration;
    let mut pairs = 0;
    while Instant::now() < end {
        for _ in 0..100 {
            drop(File::open(&file).expect("it can be opened"));
        }
        pairs += 100;
    }
    pairs
}

/// Each test has the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_is_lost_at_the_default_ring() {
    const PROCESSES: u32 = 200;
    const FILES: u32 = 20;
    if !common::bpf() {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let prefix = directory.path().join("f");
    let prefix = prefix.to_str().unwrap();
    puppet.tell(&format!(
        "def hold(i):\n    \
             for j in range({FILES}): os.open('{prefix}%d.%d' % (i, j), os.O_WRONLY | os.O_CREAT)\n    \
             os.write(ready, b'.')\n    \
             stay()"
    ));
    puppet.tell("told, ready = os.pipe()");
    puppet.tell(&format!(
        "for i in range({PROCESSES}): os.fork() or hold(i)"
    ));
    puppet.tell(&format!("for i in range({PROCESSES}): os.read(told, 1)"));
    let watch = Watch::start(&[]);
    let known = |field: &str| watch.started[field].as_u64().unwrap_or(0);
    assert!(known("processes") > u64::from(PROCESSES));
    assert!(known("descriptors") > u64::from(PROCESSES * FILES));
    let pairs = open_and_close(Duration::from_secs(3));
    let ended = watch.end();
    let summary = &ended.summary;
    assert_eq!(summary["lost"]["total"], 0, "{pairs} pairs: {summary}");
    assert!(ended.losses.is_empty());
    let events = summary["events"].as_u64().unwrap();
    assert!(events >= 2 * pairs, "{pairs} pairs: {summary}");
}

#[test]
fn what_is_lost_is_told() {
    if !common::bpf() {
        return;
    }
    let _alone = alone();
    let watch = Watch::start(&["--ring-size", "4K"]);
    // While nothing is read, there is room for some dozens.
    watch.signal(libc::SIGSTOP);
    open_and_close(Duration::from_millis(100));
    watch.signal(libc::SIGCONT);
    let ended = watch.end();
    let lost = ended.summary["lost"]["total"].as_u64().unwrap();
    assert!(lost > 0, "{}", ended.summary);
    let kinds = ended.summary["lost"]["by_kind"].as_object().unwrap();
    let by_kind = kinds.values().map(|kind| kind.as_u64().unwrap());
    assert_eq!(by_kind.sum::<u64>(), lost);
    let told = ended.losses.last().cloned().unwrap_or_default();
    assert_eq!(told["lost"], ended.summary["lost"]);
    assert_eq!(ended.code, Some(0));
}
