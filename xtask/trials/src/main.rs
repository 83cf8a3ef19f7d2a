//! The trials of fdwatch under real load, which `cargo xtask` starts.

mod bench;
mod processes;
mod soak;
mod workloads;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask_support::{
    cargo::{Profile, example},
    shell::{info, run_in_front},
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, Subcommand)]
enum Trial {
    /// Run real programs under fdwatch and compare its model with the kernel
    ///
    /// Compiles, reads all files, and runs PostgreSQL, nginx, supervisord and shells, each while fdwatch is
    /// watching. Fails if an event was lost or a descriptor differs from the kernel's. Requires root.
    /// Installs missing programs with apt.
    Workloads {
        /// Workloads: cargo, find, postgres, nginx, supervisord, shell [default: all]
        names: Vec<String>,
        /// Record a short run of each into this directory instead, without other processes of this host
        #[arg(long, value_name = "DIR")]
        record: Option<PathBuf>,
        /// Duration of each, in seconds
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Fill a ClickHouse database with simulated findings and time the fleet queries
    ///
    /// Creates the database fdwatch_sim, which must not exist.
    FleetSim {
        /// URL of ClickHouse's HTTP interface
        #[arg(long, value_name = "URL", env = "FDWATCH_FLEET_URL")]
        url: String,
        /// Number of hosts
        #[arg(long, default_value_t = 10_000)]
        hosts: u64,
        /// Hours that the findings cover
        #[arg(long, default_value_t = 24)]
        hours: u64,
        /// Number of findings
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// Seed of the random numbers
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure fdwatch's own cost and what it adds to the programs it watches
    ///
    /// Compares with alternatives: programs that do nothing, bpftrace, perf trace, strace, lsof, lsfd.
    /// Requires root and an otherwise idle machine. Installs the servers and their clients with apt, and
    /// lists missing alternatives. Writes `bench.json` to the target directory.
    Bench {
        /// Sections to measure [default: all]
        #[arg(value_enum)]
        sections: Vec<bench::Section>,
        /// In `calls`, only this tracer: floor, fdwatch, "fdwatch, detail", bpftrace, "perf trace", strace
        /// (repeatable) [default: all installed]
        #[arg(long = "tracer", value_name = "NAME")]
        tracers: Vec<String>,
        /// Number of rounds; the best one counts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Run the agent under load for a long time and check that it stays stable
    ///
    /// Requires root. Writes `soak.json` to the target directory.
    Soak {
        /// Duration in minutes
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
        /// Use this fdwatch [default: build one]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Generate load for the soak test
    #[command(hide = true)]
    SoakWorker {
        #[arg(value_enum)]
        work: soak::Work,
        directory: PathBuf,
    },
    /// Hold this many descriptors until standard input ends
    #[command(hide = true)]
    BenchHolder { descriptors: u64 },
}

fn main() -> ExitCode {
    match run(Arguments::parse().trial) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            info(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(trial: Trial) -> Result<()> {
    match trial {
        Trial::Workloads {
            names,
            record,
            seconds,
        } => workloads::workloads(&names, record.as_deref(), Duration::from_secs(seconds)),
        Trial::FleetSim {
            url,
            hosts,
            hours,
            rows,
            seed,
        } => {
            let numbers = [rows, hosts, hours, seed].map(|number| number.to_string());
            run_in_front(
                example("fleet_sim", Profile::Release)
                    .arg(url)
                    .args(numbers),
            )
        }
        Trial::Bench {
            sections,
            tracers,
            rounds,
        } => bench::bench(rounds, &sections, &tracers),
        Trial::Soak { minutes, program } => {
            soak::soak(Duration::from_secs(minutes * 60), program.as_deref())
        }
        Trial::SoakWorker { work, directory } => soak::work(work, &directory),
        Trial::BenchHolder { descriptors } => bench::hold(descriptors),
    }
}
