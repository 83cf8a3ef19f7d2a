//! Lost records: none with the default ring under load, and exactly counted with a small ring.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use fdwatch_test_support::{Puppet, Watch, bpf};

use super::alone;

/// Opens and closes a file as fast as one core can, and returns the count of pairs. The file has no duplicate, because
/// its detail would add to the load.
fn open_and_close(duration: Duration) -> u64 {
    let file = tempfile::NamedTempFile::new().expect("cannot create a file");
    let file = file.into_temp_path();
    let end = Instant::now() + duration;
    let mut pairs = 0;
    while Instant::now() < end {
        for _ in 0..100 {
            drop(File::open(&file).expect("cannot open a file"));
        }
        pairs += 100;
    }
    pairs
}

#[test]
fn default_ring_loses_nothing_under_load() {
    const PROCESSES: u32 = 200;
    const FILES: u32 = 20;
    if !bpf() {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let prefix = directory.path().join("f");
    let prefix = prefix.to_str().unwrap();
    puppet.exec(&format!(
        "def hold(i):\n    \
             for j in range({FILES}): os.open('{prefix}%d.%d' % (i, j), os.O_WRONLY | os.O_CREAT)\n    \
             os.write(ready, b'.')\n    \
             stay()"
    ));
    puppet.exec("done, ready = os.pipe()");
    puppet.exec(&format!(
        "for i in range({PROCESSES}): os.fork() or hold(i)"
    ));
    puppet.exec(&format!("for i in range({PROCESSES}): os.read(done, 1)"));
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
fn small_ring_counts_lost_records() {
    if !bpf() {
        return;
    }
    let _alone = alone();
    let watch = Watch::start(&["--ring-size", "4K"]);
    // While fdwatch is stopped, the ring has room for some dozens of records.
    watch.signal(libc::SIGSTOP);
    open_and_close(Duration::from_millis(100));
    watch.signal(libc::SIGCONT);
    let ended = watch.end();
    let lost = ended.summary["lost"]["total"].as_u64().unwrap();
    assert!(lost > 0, "{}", ended.summary);
    let kinds = ended.summary["lost"]["by_kind"].as_object().unwrap();
    let by_kind = kinds.values().map(|kind| kind.as_u64().unwrap());
    assert_eq!(by_kind.sum::<u64>(), lost);
    let reported = ended.losses.last().cloned().unwrap_or_default();
    assert_eq!(reported["lost"], ended.summary["lost"]);
    assert_eq!(ended.code, Some(0));
}
