//! Random calls in many processes and threads: whenever these rest, the model is what the kernel
//! has, descriptor by descriptor.
//!
//! `FDWATCH_CALLS` says how many calls are made, `FDWATCH_SEED` which: a seed gives every actor the
//! same calls again, but threads take turns as the scheduler has it. `FDWATCH_THREADS=1` gives each
//! process one actor.
//!
//! What the model knows that it may be wrong about is asked of the kernel first, as fdwatch does by
//! itself within some seconds: numbers that threads are at odds about, and everything, where the
//! kernel says that it has left out runs of programs.

use std::{
    env,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use crate::{
    generator::{self, Shared},
    truth::Truth,
    watching::Watching,
};

/// How many calls are made if no one says how many.
const CALLS: u64 = 50_000;

/// The seed, if no one says which.
const SEED: u64 = 1704;

/// Calls of each actor between two points of rest.
const CALLS_IN_PHASE: u32 = 250;

/// Within this time all must have come to rest, even where a kernel is emulated.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_model_is_what_the_kernel_has_after_random_calls() {
    let Some(mut watching) = Watching::attach() else {
        return;
    };
    let (calls, seed) = (
        variable("FDWATCH_CALLS", CALLS),
        variable("FDWATCH_SEED", SEED),
    );
    let threads = variable("FDWATCH_THREADS", 3) as u32;
    println!("FDWATCH_SEED={seed} FDWATCH_CALLS={calls} FDWATCH_THREADS={threads}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared");
    let shared = Shared::create(&path, seed, threads, CALLS_IN_PHASE);
    let mut root = Root(generator::command(&path).spawn().unwrap());
    watching.snapshot();
    let (mut compared, mut rests, mut missed_before) = (0, 0, 0);
    let began = Instant::now();
    while shared.calls() < calls {
        shared.begin_phase();
        root.wait_until_all_rest(shared, threads, &mut watching);
        let truth = Truth::of(root.0.id());
        let mut differences = truth.held_against(&watching.engine.model);
        let missed = watching.lost().missed_runs();
        differences
            .retain(|difference| missed == missed_before && !watching.is_in_doubt(difference));
        if differences.is_empty()
            && (missed > missed_before || watching.engine.model.is_contested())
        {
            // As it does by itself: at once, or a second later.
            watching.audit();
            watching.audit();
            differences = truth.held_against(&watching.engine.model);
        }
        missed_before = missed;
        for difference in differences.iter().take(5) {
            println!("{difference}\n{}", watching.story_of(difference));
        }
        assert!(
            differences.is_empty(),
            "{} differences after {} calls, FDWATCH_SEED={seed}",
            differences.len(),
            shared.calls()
        );
        watching.records.clear();
        compared += truth.descriptors();
        rests += 1;
    }
    let lost = watching.lost();
    assert_eq!(lost.total(), lost.missed_runs(), "{lost:?}");
    let statistics = watching.engine.model.statistics();
    println!(
        "{} calls, {rests} rests, {compared} descriptors compared in {:.1} s; {} contested, {} of \
         them otherwise; {missed_before} runs missed",
        shared.calls(),
        began.elapsed().as_secs_f64(),
        statistics.contested,
        statistics.contested_otherwise
    );
    drop(root);
    watching.probe.detach();
}

fn variable(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// The generator.
struct Root(Child);

impl Root {
    fn wait_until_all_rest(&mut self, shared: &Shared, threads: u32, watching: &mut Watching) {
        let deadline = Instant::now() + LIMIT;
        while shared.resting() < generator::actors(threads) {
            assert!(Instant::now() < deadline, "{} rest", shared.resting());
            assert_eq!(self.0.try_wait().unwrap(), None, "the generator has ended");
            watching.drain();
            thread::sleep(Duration::from_millis(1));
        }
        watching.drain();
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // All that it has made ends with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
