//! Text after the long help of each command: examples, rules and exit codes.

pub(super) const FDWATCH: &str = "\
Examples:
  fdwatch doctor                              check that fdwatch works here
  fdwatch                                     watch all processes
  fdwatch scan                                report current duplicates
  fdwatch explain 1234 /var/log/app.log       explain why 1234 has the file open
  fdwatch run -- make test                    find descriptors that a command leaks

See `fdwatch COMMAND --help` for details of a command.";

pub(super) const WATCH: &str = "\
Examples:
  fdwatch watch
  fdwatch watch --comm supervisord --path '/var/log/*'
  fdwatch watch --pid 1234 --all              all file types, with stacks
  fdwatch watch --json --duration 1m >found.jsonl

Exit codes:
  0  stopped by Ctrl-C or --duration
  2  error";

#[cfg(feature = "top")]
pub(super) const TOP: &str = "\
Keys are those of htop: F1 or ? lists them, F4 or / filters as you type, F6
sorts, Enter opens a process, Space freezes the screen, Tab switches to the
findings, F10 or q quits. The mouse works too.

Examples:
  fdwatch top
  fdwatch top --all
  NO_COLOR=1 fdwatch top                      without colours";

pub(super) const RUN: &str = "\
Reports these findings of the command and its descendants, including daemons:
  exit       a descriptor that a process opened and left open at its exit
  exec       a descriptor without close-on-exec that another program inherited
  duplicate  a file on several descriptors of a process, as in `fdwatch watch`
Descriptors that the command inherits at its start, and descriptors 0 to 2, are
not leaks. Processes that are still running at the end are listed; their open
descriptors are not leaks.

Examples:
  fdwatch run -- ./report --all
  fdwatch run --error-exitcode 9 --ignore known --junit leaks.xml -- make test

Rules:
  Each line of an --ignore file is a rule. All terms of a rule must match:
    /tmp/*.log      pattern of the requested or actual path (also: path:/tmp/*.log)
    comm:bash       pattern of the process name
    exe:/usr/bin/*  pattern of the program's path
    type:socket     regular, directory, pipe, socket, character, block or anonymous
    kind:exit       exit, exec or duplicate
  In patterns, * also matches /. Lines that start with # are comments.

Exit codes:
  that of the command; 128 + N if signal N ended it
  N    of --error-exitcode, if anything is reported and the command succeeds
  126  the command cannot be executed
  127  the command was not found
  2    fdwatch cannot follow the command";

pub(super) const SCAN: &str = "\
Examples:
  fdwatch scan
  fdwatch scan --unit nginx.service
  fdwatch scan --all --type socket
  fdwatch scan --proc                         your own processes, without privileges

Exit codes:
  0  no duplicates
  1  duplicates found
  2  error";

pub(super) const FDS: &str = "\
Examples:
  fdwatch fds 1234
  fdwatch fds 1234 --json
  fdwatch fds 1234 --proc                     your own process, without privileges";

pub(super) const EXPLAIN: &str = "\
Examples:
  fdwatch explain 1234                        all duplicates and deleted files
  fdwatch explain 1234 7                      descriptor 7
  fdwatch explain 1234 /var/log/app.log
  fdwatch explain 1234 --duration 5m          with stacks of what opens them meanwhile";

pub(super) const TRACE: &str = "\
Examples:
  fdwatch trace --pid 1234                    the process and its children
  fdwatch trace --comm 'php-fpm*' --duration 30s
  fdwatch trace --pid 1234 --no-follow --json";

pub(super) const RECORD: &str = "\
A recording contains numbers, process names and the host name. It contains no
paths and no command lines.

Examples:
  fdwatch record --duration 30s host.fdw
  fdwatch replay host.fdw";

pub(super) const REPLAY: &str = "\
Examples:
  fdwatch replay host.fdw
  fdwatch replay host.fdw --all --json

Exit codes:
  0  recording read to its end
  2  error";

pub(super) const DOCTOR: &str = "\
Examples:
  fdwatch doctor
  fdwatch doctor --json

Exit codes:
  0  everything works
  1  works, with reduced functionality
  2  fdwatch cannot watch here, or error";

#[cfg(feature = "lint")]
pub(super) const LINT: &str = "\
Examples:
  fdwatch lint /etc/supervisor/supervisord.conf
  fdwatch lint supervisord.conf --logrotate logrotate.d --json

Exit codes:
  0  no problems
  1  problems found
  2  error";

#[cfg(feature = "agent")]
pub(super) const AGENT: &str = "\
On SIGHUP the agent reloads its configuration. If the new one is invalid, it
reports the errors and keeps the old one.

Examples:
  fdwatch agent --print-example >/etc/fdwatch/agent.toml
  fdwatch agent --check /etc/fdwatch/agent.toml
  fdwatch agent --config /etc/fdwatch/agent.toml
  fdwatch agent --stop";

#[cfg(feature = "agent")]
pub(super) const HISTORY: &str = "\
Examples:
  fdwatch history --since 7d --path '/var/log/*'
  fdwatch history --comm nginx --severity critical
  fdwatch history --processes --since 1d
  fdwatch history --database copy.db --limit 20 --json";

#[cfg(feature = "fleet")]
pub(super) const FLEET: &str = "\
Examples:
  fdwatch fleet init --url https://clickhouse:8443
  fdwatch fleet duplicates --url https://clickhouse:8443 --since 24h
  fdwatch fleet duplicates --agents host1:9464,host2:9464 --token-file token

FDWATCH_FLEET_URL replaces --url. See `fdwatch fleet COMMAND --help` for details.";

#[cfg(feature = "fleet")]
pub(super) const FLEET_INIT: &str = "\
Examples:
  fdwatch fleet init --url https://clickhouse:8443
  fdwatch fleet init --url https://clickhouse:8443 --cluster main --keep 90
  fdwatch fleet init --print
  fdwatch fleet init --url https://clickhouse:8443 --print-grants";

#[cfg(feature = "fleet")]
pub(super) const FLEET_DUPLICATES: &str = "\
Examples:
  fdwatch fleet duplicates --since 7d --severity warning
  fdwatch fleet duplicates --by host
  fdwatch fleet duplicates --agents @hosts.txt --token-file token";

#[cfg(feature = "fleet")]
pub(super) const FLEET_SHOW: &str = "\
Examples:
  fdwatch fleet show v1:17d4e3a41ee5
  fdwatch fleet show v1:17d4 --since 30d --json";

#[cfg(feature = "fleet")]
pub(super) const FLEET_NEW: &str = "\
Examples:
  fdwatch fleet new --since 2h
  fdwatch fleet new --since 2026-01-02T15:00:00Z --before 30d";

#[cfg(feature = "fleet")]
pub(super) const FLEET_HOSTS: &str = "\
Examples:
  fdwatch fleet hosts
  fdwatch fleet hosts --silent-after 15m --json";

#[cfg(feature = "fleet")]
pub(super) const FLEET_SHARED: &str = "\
Examples:
  fdwatch fleet shared
  fdwatch fleet shared --since 7d --limit 10";
