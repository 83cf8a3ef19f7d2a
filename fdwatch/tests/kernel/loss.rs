//! Lost records are detected, and the next audit repairs the tables.

use fdwatch_probe::Options;

use crate::{
    generator::Generator,
    truth::Truth,
    watching::{Watching, variable},
};

/// Size of the ring: far smaller than the records of a phase.
const RING: u32 = 64 << 10;

#[test]
fn audit_repairs_tables_after_loss() {
    /// Default for `FDWATCH_CALLS`.
    const CALLS: u64 = 20_000;
    let options = Options {
        ring_bytes: RING,
        ..Options::default()
    };
    let Some(mut watching) = Watching::attach_with(options) else {
        return;
    };
    // Sixteen threads.
    let mut generator = Generator::start(4, 4);
    watching.snapshot();
    let mut lost = 0;
    while generator.calls() < variable("FDWATCH_CALLS", CALLS) {
        generator.run_phase(|| {});
        watching.drain();
        let now = watching.lost().total();
        assert!(now > lost, "no record was lost");
        lost = now;
        // An audit consists of two snapshots.
        watching.audit();
        watching.audit();
        let mut differences = Truth::of(generator.pid()).differences_from(&watching.engine.model);
        differences.retain(|difference| !difference.is_hidden);
        assert_eq!(differences, [], "after {lost} lost records");
    }
    let drift = watching.engine.model.statistics().drift;
    assert!(drift.total() > 0, "no audit repaired a difference");
    drop(generator);
    watching.probe.detach();
}
