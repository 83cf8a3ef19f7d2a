//! What the agent keeps of its capabilities is enough for what it does later, on every kernel.

use std::{process, thread};

use fdwatch_agent::privileges::give_up_in_this_thread;

use crate::watching::Watching;

#[test]
fn with_what_is_kept_snapshots_are_taken_and_detail_is_asked_for() {
    // Capabilities are a thread's own: the other tests keep theirs.
    let trial = thread::spawn(|| {
        let mut watching = Watching::attach()?;
        let given = give_up_in_this_thread().unwrap();
        println!("kept: {}", given.kept.join(", "));
        assert!(given.missing.is_empty(), "{:?}", given.missing);
        watching.probe.snapshot(|_| ()).unwrap();
        watching.probe.detail_of(process::id(), true).unwrap();
        watching.probe.detach();
        Some(())
    });
    trial.join().unwrap();
}
