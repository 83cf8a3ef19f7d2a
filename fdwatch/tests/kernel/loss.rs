//! What is lost is known to be lost, and the next audit makes the tables right again.

use fdwatch_probe::Options;

use crate::{
    generator::Generator,
    truth::Truth,
    watching::{Watching, variable},
};

/// Far too little for what is written in a phase without being read.
const RING: u32 = 64 << 10;

#[test]
fn after_a_loss_an_audit_makes_the_tables_right() {
    /// Or `FDWATCH_CALLS`.
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
        assert!(now > lost, "the ring had room for all of it");
        lost = now;
        // Its two looks.
        watching.audit();
        watching.audit();
        let mut differences = Truth::of(generator.pid()).held_against(&watching.engine.model);
        differences.retain(|difference| !difference.is_hidden);
        assert_eq!(differences, [], "after {lost} were lost");
    }
    let drift = watching.engine.model.statistics().drift;
    assert!(drift.total() > 0, "nothing of what was lost was missed");
    drop(generator);
    watching.probe.detach();
}
