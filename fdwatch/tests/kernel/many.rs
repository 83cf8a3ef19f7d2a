//! The maximum number of descriptors in one process.

use std::{collections::BTreeSet, fs};

use crate::{
    watching::{Watching, variable},
    worker::{Worker, end, is_worker, step},
};

/// Number of descriptors, unless `FDWATCH_MANY` is smaller for slow machines.
const MANY: u32 = 1_000_000;

/// Returns the number of descriptors that can be opened besides the open ones.
fn many() -> u32 {
    let many = variable("FDWATCH_MANY", MANY.into()) as u32;
    let most = many + 100;
    // SAFETY: pointees live until the calls return.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: most.into(),
            rlim_max: most.into(),
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 {
            return many;
        }
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        u32::try_from(limit.rlim_max).unwrap() - 100
    }
}

#[test]
fn maximum_number_of_descriptors_is_complete() {
    // Half of them are open before the snapshot.
    let mut child = Worker::start("many::child");
    let Some(mut watching) = Watching::attach() else {
        return;
    };
    watching.snapshot();
    let pid = child.child.id();
    let mut most = 0;
    loop {
        watching.drain();
        if child.at == "some more" {
            child.step();
            continue;
        }
        let table = watching.engine.model.table_of(pid).unwrap();
        let known: BTreeSet<u32> = table.iter().map(|(fd, _)| fd).collect();
        let shown = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let shown: BTreeSet<u32> = shown
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(known.len(), shown.len(), "after {}", child.at);
        assert!(known == shown, "after {}", child.at);
        most = most.max(known.len());
        if !child.step() {
            break;
        }
    }
    println!("{most} descriptors");
    assert_eq!(watching.lost(), fdwatch_core::Lost::default());
    watching.probe.detach();
}

/// Not a test: the child.
#[test]
#[ignore = "run by the other test as a child process"]
fn child() {
    if !is_worker() {
        return;
    }
    let many = many();
    // SAFETY: pointees live until the calls return; no code relies on the descriptors.
    unsafe {
        let file = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        for _ in 0..many / 2 {
            libc::dup(file);
        }
        step("half of them");
        for _ in 0..many / 2 {
            // Small steps, so that the reader keeps up.
            if libc::dup(file) % 50_000 == 0 {
                step("some more");
            }
        }
        step("all");
        libc::syscall(libc::SYS_close_range, many / 4, many / 2, 0);
        step("a range closed");
        libc::close_range(many / 2, many * 3 / 4, libc::CLOSE_RANGE_CLOEXEC as _);
        step("a range to be closed on exec");
        for fd in (10..many).step_by(7) {
            if fd % 50_000 < 7 {
                step("some more");
            }
            libc::close(fd as i32);
        }
        step("others closed");
    }
    end();
}
