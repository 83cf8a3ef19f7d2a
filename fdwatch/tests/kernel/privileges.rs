//! The capabilities that the agent retains suffice for its later work, on every kernel.

use std::{process, thread};

use fdwatch_agent::privileges::drop_in_this_thread;

use crate::watching::Watching;

#[test]
fn retained_capabilities_allow_snapshot_and_detail() {
    // Capabilities are per thread: the other tests keep theirs.
    let trial = thread::spawn(|| {
        let mut watching = Watching::attach()?;
        let remaining = drop_in_this_thread().unwrap();
        println!("kept: {}", remaining.kept.join(", "));
        assert!(remaining.missing.is_empty(), "{:?}", remaining.missing);
        watching.probe.snapshot(|_| ()).unwrap();
        watching.probe.set_detail(process::id(), true).unwrap();
        watching.probe.detach();
        Some(())
    });
    trial.join().unwrap();
}
