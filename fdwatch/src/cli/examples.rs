//! What each command's help ends with: examples, and exit codes where they say something. Text alone.

pub(super) const FDWATCH: &str = "\
Examples:
  fdwatch doctor                              does it work here?
  fdwatch                                     duplicates of all processes, as they come and go
  fdwatch scan                                what there is now
  fdwatch explain 1234 /var/log/app.log       why does process 1234 hold that file?
  fdwatch run -- make test                    what does a command leave open?

`fdwatch COMMAND --help` has more. Without a command it is `fdwatch watch`, whose options are above.";

pub(super) const WATCH: &str = "\
Examples:
  fdwatch watch
  fdwatch watch --comm supervisord --path '/var/log/*'
  fdwatch watch --pid 1234 --all              all types of files, with stacks
  fdwatch watch --json --duration 1m >found.jsonl

Exit codes: 0 when it has ended as asked, 2 on errors.";

pub(super) const SCAN: &str = "\
Examples:
  fdwatch scan
  fdwatch scan --unit nginx.service
  fdwatch scan --all --type socket
  fdwatch scan --proc                         of one's own processes, without privileges

Exit codes: 0 if there are none, 1 if there are, 2 on errors.";

pub(super) const FDS: &str = "\
Examples:
  fdwatch fds 1234
  fdwatch fds 1234 --json
  fdwatch fds 1234 --proc                     of one's own process, without privileges";

pub(super) const EXPLAIN: &str = "\
Examples:
  fdwatch explain 1234                        all that it holds twice, or that was deleted
  fdwatch explain 1234 7                      descriptor 7
  fdwatch explain 1234 /var/log/app.log
  fdwatch explain 1234 --duration 5m          with who opens it in this time, and where";

pub(super) const TRACE: &str = "\
Examples:
  fdwatch trace --pid 1234                    the process, and what it makes
  fdwatch trace --comm 'php-fpm*' --duration 30s
  fdwatch trace --pid 1234 --no-follow --json";

pub(super) const RECORD: &str = "\
Examples:
  fdwatch record --duration 30s host.fdw
  fdwatch replay host.fdw

What is recorded are numbers: no paths, no command lines, but the names of processes and the host's.";

pub(super) const REPLAY: &str = "\
Examples:
  fdwatch replay host.fdw
  fdwatch replay host.fdw --all --json

Exit codes: 0 when all of it was gone through, 2 on errors.";

pub(super) const DOCTOR: &str = "\
Examples:
  fdwatch doctor
  fdwatch doctor --json

Exit codes: 0 if everything works, 1 if something is missing that can be done without, 2 if fdwatch
cannot watch here.";

pub(super) const LINT: &str = "\
Examples:
  fdwatch lint /etc/supervisor/supervisord.conf
  fdwatch lint supervisord.conf --logrotate logrotate.d --json

Exit codes: 0 if nothing is wrong, 1 if something is, 2 on errors.";

pub(super) const HISTORY: &str = "\
Examples:
  fdwatch history --since 7d --path '/var/log/*'
  fdwatch history --comm nginx --severity critical
  fdwatch history --processes --since 1d
  fdwatch history --database copy.db --limit 20 --json";

pub(super) const FLEET: &str = "\
Examples:
  fdwatch fleet init --url https://clickhouse:8443
  fdwatch fleet duplicates --url https://clickhouse:8443 --since 24h
  fdwatch fleet duplicates --agents host1:9464,host2:9464 --token-file token

FDWATCH_FLEET_URL stands for --url. `fdwatch fleet COMMAND --help` has more.";

pub(super) const FLEET_INIT: &str = "\
Examples:
  fdwatch fleet init --url https://clickhouse:8443
  fdwatch fleet init --url https://clickhouse:8443 --cluster main --keep 90
  fdwatch fleet init --print
  fdwatch fleet init --url https://clickhouse:8443 --print-grants";

pub(super) const FLEET_DUPLICATES: &str = "\
Examples:
  fdwatch fleet duplicates --since 7d --severity warning
  fdwatch fleet duplicates --by host
  fdwatch fleet duplicates --agents @hosts.txt --token-file token";

pub(super) const FLEET_SHOW: &str = "\
Examples:
  fdwatch fleet show v1:17d4e3a41ee5
  fdwatch fleet show v1:17d4 --since 30d --json";

pub(super) const FLEET_NEW: &str = "\
Examples:
  fdwatch fleet new --since 2h
  fdwatch fleet new --since 2026-01-02T15:00:00Z --before 30d";

pub(super) const FLEET_HOSTS: &str = "\
Examples:
  fdwatch fleet hosts
  fdwatch fleet hosts --silent-after 15m --json";

pub(super) const FLEET_SHARED: &str = "\
Examples:
  fdwatch fleet shared
  fdwatch fleet shared --since 7d --limit 10";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _, Parser as _};

    use crate::cli::Cli;

    /// The examples of a command and of those below it.
    fn examples(command: &Command, name: &str, all: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_else(|| panic!("{name} has no examples"));
        let own: Vec<_> = help
            .lines()
            .filter(|line| line.starts_with("  fdwatch"))
            .collect();
        assert!(!own.is_empty(), "{name} has no examples");
        all.extend(own.into_iter().map(str::to_owned));
        for below in command.get_subcommands() {
            examples(below, &format!("{name} {}", below.get_name()), all);
        }
    }

    /// The words of a command as a shell takes them, without what it does itself, and without what is
    /// said of it.
    fn words(line: &str) -> Vec<String> {
        let line = line.trim();
        let command = line.split("  ").next().unwrap_or(line);
        let command = command.split(" >").next().unwrap_or(command);
        command
            .split(' ')
            .map(|word| word.replace('\'', ""))
            .collect()
    }

    #[test]
    fn all_commands_have_examples_and_all_of_these_are_understood() {
        let mut all = Vec::new();
        examples(&Cli::command(), "fdwatch", &mut all);
        for line in all {
            let parsed = Cli::try_parse_from(words(&line));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
