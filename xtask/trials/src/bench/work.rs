//! The slowdown of real programs: runs them in turns with and without fdwatch.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask_support::{
    shell::{SHELL, info, which},
    temp::TempDir,
};

use super::{
    figures::{goal, median},
    tracers::Tracer,
};
use crate::workloads;

/// Duration of the load on a server in each turn.
const DURATION: Duration = Duration::from_secs(9);

/// Does some work and returns the seconds per unit.
type Work<'a> = dyn FnMut() -> Result<f64> + 'a;

/// The seconds per unit of each turn.
#[derive(Default)]
struct Turns {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Turns {
    /// Measures in turns. The order alternates, because the first of a round fills caches for the second.
    fn take(rounds: u32, work: &mut Work<'_>) -> Result<Self> {
        let mut turns = Self::default();
        // Fills the page cache.
        work()?;
        for round in 0..rounds {
            if round % 2 == 0 {
                turns.without.push(work()?);
                turns.with.push(under_fdwatch(work)?);
            } else {
                turns.with.push(under_fdwatch(work)?);
                turns.without.push(work()?);
            }
        }
        Ok(turns)
    }

    /// Returns the slowdown under fdwatch, in percent.
    fn slowdown(&self) -> f64 {
        (median(&self.with) / median(&self.without) - 1.0) * 100.0
    }

    /// Returns the median deviation from the median, in percent: the noise of the measurement.
    fn spread(&self) -> f64 {
        let of = |turns: &[f64]| {
            let middle = median(turns);
            let deviations: Vec<_> = turns
                .iter()
                .map(|turn| (turn / middle - 1.0).abs())
                .collect();
            median(&deviations) * 100.0
        };
        of(&self.without).max(of(&self.with))
    }
}

fn under_fdwatch(work: &mut Work<'_>) -> Result<f64> {
    let running = Tracer::Fdwatch.start()?.context("no tracer")?;
    let took = work();
    running.stop()?;
    took
}

/// Measures all programs.
pub(super) fn measure(rounds: u32) -> Result<Value> {
    // Fewer turns cannot show a slowdown of a few percent.
    let rounds = rounds.max(3);
    println!(
        "{:<14} {:>12} {:>12} {:>10} {:>8}",
        "work", "s without", "s with", "slower %", "spread %"
    );
    let mut figures = Vec::new();
    let mut goals = Vec::new();
    let mut report = |name: &str, turns: Result<Turns>| match turns {
        Ok(turns) => {
            let (slowdown, spread) = (turns.slowdown(), turns.spread());
            println!(
                "{name:<14} {:>12.6} {:>12.6} {slowdown:>10.2} {spread:>8.2}",
                median(&turns.without),
                median(&turns.with)
            );
            figures.push(json!({
                "work": name,
                "seconds_without": turns.without,
                "seconds_with": turns.with,
                "slower_percent": slowdown,
                "spread_percent": spread,
            }));
            goals.push((name.to_owned(), slowdown, spread));
        }
        Err(error) => info(format!("{name} is skipped: {error:#}")),
    };
    for name in ["cargo", "nginx", "postgres"] {
        info(name);
        let mut turns = Err(anyhow::anyhow!("the workload did not run"));
        let done = workloads::repeat(name, DURATION, |work| {
            turns = Turns::take(rounds, work);
            Ok(())
        });
        report(name, done.and(turns));
    }
    info("git status, tar");
    let directory = TempDir::new("fdwatch-bench-").context("cannot create a directory")?;
    match tree(directory.path()) {
        Ok(tree) => {
            report("git status", Turns::take(rounds, &mut || git_status(&tree)));
            report("tar", Turns::take(rounds, &mut || tar(&tree)));
        }
        Err(error) => info(format!("git status and tar are skipped: {error:#}")),
    }
    let goals: Vec<_> = goals
        .iter()
        .map(|(name, slowdown, spread)| {
            let max = spread.max(1.0);
            goal(&format!("slowdown of {name}"), *slowdown, max, "%")
        })
        .collect();
    Ok(json!({ "work": figures, "goals": goals }))
}

/// Returns a repository with many files: the sources of all libraries.
fn tree(directory: &Path) -> Result<PathBuf> {
    ensure!(which("git"), "git is not installed");
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
        .context("no home directory")?;
    let tree = directory.join("tree");
    SHELL.run(
        Command::new("cp")
            .arg("-r")
            .arg(cargo.join("registry/src"))
            .arg(&tree),
    )?;
    for arguments in [
        &["init", "-q"][..],
        &["add", "-A"],
        &[
            "-c",
            "user.name=x",
            "-c",
            "user.email=x",
            "commit",
            "-q",
            "-m",
            "x",
        ],
    ] {
        SHELL.run(Command::new("git").current_dir(&tree).args(arguments))?;
    }
    Ok(tree)
}

fn git_status(tree: &Path) -> Result<f64> {
    const TIMES: u32 = 20;
    let began = Instant::now();
    for _ in 0..TIMES {
        quiet(Command::new("git").current_dir(tree).arg("status"))?;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(TIMES))
}

fn tar(tree: &Path) -> Result<f64> {
    const TIMES: u32 = 3;
    let began = Instant::now();
    for _ in 0..TIMES {
        // Through a pipe: tar does not read files if it writes to /dev/null.
        quiet(
            Command::new("sh")
                .current_dir(tree)
                .args(["-c", "tar -cf - . | cat > /dev/null"]),
        )?;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(TIMES))
}

fn quiet(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowdown_and_spread_use_medians() {
        let turns = Turns {
            without: vec![1.0, 2.0, 9.0],
            with: vec![2.2, 2.1, 2.0],
        };
        assert!((turns.slowdown() - 5.0).abs() < 1e-6);
        assert!((turns.spread() - 50.0).abs() < 1e-6, "{}", turns.spread());
    }

    #[test]
    fn tar_reads_files() {
        let directory = TempDir::new("fdwatch-bench-").unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        assert!(tar(directory.path()).unwrap() > 0.0);
    }
}
