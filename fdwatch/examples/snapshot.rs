//! Takes a snapshot of all descriptors and prints its duration in seconds. For benchmarks.

use std::{
    io::{self, Write as _},
    time::Instant,
};

use fdwatch_core::{engine::Engine, model::Moment};
use fdwatch_host::proc;
use fdwatch_probe::{Options, Probe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut probe = Probe::load(Options::default())?;
    // The first snapshot also loads the program.
    probe.snapshot(|_| {})?;
    let mut engine = Engine::new(proc::anonymous_devices(), false);
    let began = Instant::now();
    engine.snapshot(|on_record| {
        probe.snapshot(|record| on_record(record, Moment(proc::boottime())))
    })?;
    writeln!(io::stdout(), "{}", began.elapsed().as_secs_f64())?;
    Ok(())
}
