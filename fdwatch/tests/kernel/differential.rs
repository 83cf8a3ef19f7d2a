//! Random calls in many processes and threads: whenever all of them rest, the model equals the kernel's
//! tables, descriptor by descriptor.
//!
//! `FDWATCH_CALLS` is the number of calls and `FDWATCH_SEED` selects them: a seed reproduces the calls of
//! every actor, but not how the scheduler interleaves threads. `FDWATCH_THREADS=1` gives each process one
//! actor.
//!
//! State that the model marks as uncertain is first corrected from the kernel, as fdwatch does within
//! seconds: racing descriptors, and all tables after the kernel reported missed program runs.

use std::time::Instant;

use crate::{
    generator::Generator,
    truth::Truth,
    watching::{Watching, variable},
};

/// Number of calls by default.
const CALLS: u64 = 50_000;

/// Seed by default.
const SEED: u64 = 1704;

#[test]
fn model_equals_kernel_after_random_calls() {
    let Some(mut watching) = Watching::attach() else {
        return;
    };
    let (calls, seed) = (
        variable("FDWATCH_CALLS", CALLS),
        variable("FDWATCH_SEED", SEED),
    );
    let threads = variable("FDWATCH_THREADS", 3) as u32;
    println!("FDWATCH_SEED={seed} FDWATCH_CALLS={calls} FDWATCH_THREADS={threads}");

    let mut generator = Generator::start(seed, threads);
    watching.snapshot();
    let (mut compared, mut rests, mut missed_before) = (0, 0, 0);
    let began = Instant::now();
    while generator.calls() < calls {
        generator.run_phase(|| watching.drain());
        watching.drain();
        let lost = watching.lost();
        assert_eq!(lost.total(), lost.missed_runs(), "{lost:?}");
        let truth = Truth::of(generator.pid());
        let mut differences = truth.differences_from(&watching.engine.model);
        let missed = lost.missed_runs();
        differences.retain(|difference| missed == missed_before && !watching.is_racing(difference));
        if differences.is_empty()
            && (missed > missed_before || watching.engine.model.has_racing_fds())
        {
            // As fdwatch does: immediately, or a second later.
            watching.audit();
            watching.audit();
            differences = truth.differences_from(&watching.engine.model);
        }
        missed_before = missed;
        for difference in differences.iter().take(5) {
            println!("{difference}\n{}", watching.story_of(difference));
        }
        assert!(
            differences.is_empty(),
            "{} differences after {} calls, FDWATCH_SEED={seed}",
            differences.len(),
            generator.calls()
        );
        watching.records.clear();
        compared += truth.descriptors();
        rests += 1;
    }
    let statistics = watching.engine.model.statistics();
    println!(
        "{} calls, {rests} rests, {compared} descriptors compared in {:.1} s; {} contested, {} of \
         them otherwise; {missed_before} runs missed",
        generator.calls(),
        began.elapsed().as_secs_f64(),
        statistics.racing,
        statistics.racing_corrected
    );
    drop(generator);
    watching.probe.detach();
}
