//! The CPU budget: work is dropped in order when it is exceeded, and resumed afterwards.

use std::{
    fs::File,
    process,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use fdwatch_test_support::{Watch, bpf};

use super::alone;

/// Maximum time that other processes may keep the host busy.
const MAX_BUSY: Duration = Duration::from_secs(180);

/// Stops a thread on drop, also when the test fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn busy_process_is_dropped_until_load_ends() {
    if !bpf() {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    let mut watch = Watch::start(&["--max-cpu", "2"]);
    let stop = AtomicBool::new(false);
    let own = u64::from(process::id());
    thread::scope(|scope| {
        let _stop = AtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                drop(File::open(&file).unwrap());
            }
        });
        for sheds in ["detail", "audits", "busiest-processes"] {
            let budget = watch.next_of("budget");
            assert_eq!(budget["sheds"], sheds, "{budget}");
            assert!(budget["cpu"].as_f64() > Some(2.0), "{budget}");
            if sheds == "busiest-processes" {
                let not_followed = budget["not_followed"].as_array().unwrap();
                assert!(not_followed.contains(&own.into()), "{budget}");
            }
        }
        // A snapshot finds duplicates of a process that is not followed.
        let twice = [0; 2].map(|_| File::options().append(true).open(&file).unwrap());
        let found = watch.next_of("finding");
        assert_eq!(found["process"]["pid"], own, "{found}");
        drop(twice);
    });
    // Other processes may have been dropped too.
    let end = Instant::now() + MAX_BUSY;
    while watch.next_of("budget")["sheds"] != "nothing" {
        assert!(Instant::now() < end, "the load did not end");
    }
    // Its events arrive again, and the model is complete.
    let twice = [0; 2].map(|_| File::create(&file).unwrap());
    let fds = loop {
        let finding = watch.next_of("finding");
        let fds = finding["fds"].as_array().unwrap().clone();
        if !fds.is_empty() && finding["process"]["pid"] == own {
            break fds;
        }
    };
    assert_eq!(fds[0]["origin"], "openat", "{fds:?}");
    drop(twice);
    let summary = watch.end().summary;
    let most = summary["budget"]["most_not_followed"].as_u64();
    assert!(most >= Some(1), "{summary}");
    assert_eq!(summary["drift"]["phantom"], 0, "{summary}");
    assert_eq!(summary["drift"]["missing"], 0, "{summary}");
}
