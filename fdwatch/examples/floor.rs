//! Attaches programs that do nothing to opens and closes, until standard input ends. For benchmarks.

use std::io::{self, Read as _, Write as _};

use fdwatch_probe::{Options, Probe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut probe = Probe::load(Options::default())?;
    probe.attach_floor()?;
    writeln!(io::stdout(), "attached")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
