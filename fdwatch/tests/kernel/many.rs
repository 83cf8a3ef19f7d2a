//! As many descriptors in one process as there may be.

use std::{collections::BTreeSet, fs};

use crate::{
    watching::{Watching, variable},
    worker::{Worker, end, is_worker, step},
};

/// How many, if `FDWATCH_MANY` does not say less, where all is slow.
const MANY: u32 = 1_000_000;

/// How many there may be, besides those that are there already.
fn many() -> u32 {
    let many = variable("FDWATCH_MANY", MANY.into()) as u32;
    let most = many + 100;
    // SAFETY: pointers are to what lives until the calls return.
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
fn as_many_descriptors_as_a_process_may_have_are_all_there() {
    // Half of them before, for the snapshot to show.
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

/// Not a test, but what the child does.
#[test]
#[ignore = "is run by the other one"]
fn child() {
    if !is_worker() {
        return;
    }
    let many = many();
    // SAFETY: pointers are to what lives until the calls return; the descriptors are no one's.
    unsafe {
        let file = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
        for _ in 0..many / 2 {
            libc::dup(file);
        }
        step("half of them");
        for _ in 0..many / 2 {
            // The reader is to keep up: it looks between steps only.
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
