//! Prints the memory of the model for several numbers of descriptors and processes, as one JSON object per line. For
//! benchmarks.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{self, Write as _},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use fdwatch_common::{FdOpen, Fork, Header, Kind, Payload};
use fdwatch_core::{
    engine::Engine,
    model::{AnonymousDevices, Moment},
};

/// Counts requested bytes, without the allocator's overhead.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: delegates to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    for (descriptors, processes) in [(10_000, 1_000), (100_000, 10_000), (1_000_000, 10_000)] {
        let before = ALLOCATED.load(Relaxed);
        let engine = fill(processes, descriptors / processes);
        let bytes = ALLOCATED.load(Relaxed) - before;
        let count = engine.descriptors();
        writeln!(
            io::stdout(),
            r#"{{"descriptors":{count},"processes":{processes},"bytes":{bytes}}}"#
        )?;
    }
    Ok(())
}

/// A model of processes with `each` descriptors and without duplicates.
fn fill(processes: u32, each: u32) -> Engine {
    let mut engine = Engine::new(AnonymousDevices::default(), false);
    for tgid in 1..=processes {
        let header = |kind: Kind, fd| Header {
            kind: kind as u8,
            fd,
            tid: tgid,
            tgid,
            ..Header::default()
        };
        let table = u64::from(tgid) * 704;
        let fork = Fork {
            header: header(Kind::Fork, 0),
            table,
            ..Fork::default()
        };
        engine.record(fork.as_bytes(), Moment(1));
        for fd in 0..each {
            let ino = u64::from(tgid) << 32 | u64::from(fd);
            let birth = FdOpen {
                header: header(Kind::FdOpen, fd),
                table,
                payload: Payload {
                    file: ino,
                    ino,
                    mode: 0o100_644,
                    nlink: 1,
                    ..Payload::default()
                },
            };
            engine.record(birth.as_bytes(), Moment(1));
        }
    }
    engine.settle(Moment(1 << 40), &mut |_, _| {});
    // Shrinks the model, as when no events arrive.
    engine.model.free_caches();
    engine.model.free_caches();
    engine
}
