//! `fdwatch lint`: what it says of configurations, and that the logs it speaks of are those that a real
//! supervisord has.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use common::{Finished, Guard, eventually, fdwatch, run};
use fdwatch_host::supervisor_host::RealHost;
use fdwatch_supervisor::{self, Stream, Target};
use tempfile::TempDir;

const SUPERVISORD: &str = "/usr/bin/supervisord";

/// A configuration in a directory of its own, without any logrotate.
struct Case {
    directory: TempDir,
}

impl Case {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let case = Self { directory };
        case.write("supervisord.conf", text);
        fs::create_dir(case.path("rotate.d")).expect("a directory can be made");
        case
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().expect("the path is UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it can be written");
    }

    fn lint(&self, arguments: &[&str]) -> Finished {
        let rotate = self.path("rotate.d");
        let mut command = fdwatch(["lint", "supervisord.conf", "--logrotate", &rotate]);
        command.args(arguments).current_dir(self.directory.path());
        run(command)
    }
}

const TWO_ON_ONE: &str = "[supervisord]
logfile=%(here)s/supervisord.log
[program:a]
command=/bin/cat
stdout_logfile=%(here)s/x.log
stderr_logfile=NONE
[program:b]
command=/bin/cat
stdout_logfile=%(here)s/x.log
stderr_logfile=NONE
";

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let case = Case::new(TWO_ON_ONE);
    let finished = case.lint(&[]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let log = case.path("x.log");
    let expected = format!(
        "supervisord.conf:5: warning: {log} is the log of stdout of a, stdout of b. Each rotates it \
         independently: after one does, the others keep writing to the renamed file, which the next \
         rotation overwrites [shared-log]\n    \
         supervisord.conf:9: stdout_logfile of [program:b]\n    \
         > give each program its own log, such as {}/%(program_name)s.log \
         (supervisord.conf:5, supervisord.conf:9), or pipe them to one logger\n",
        case.directory.path().display()
    );
    assert_eq!(finished.stdout(), expected);
    assert_eq!(finished.stderr, "");
}

#[test]
fn the_same_is_told_as_json() {
    let case = Case::new(TWO_ON_ONE);
    let finished = case.lint(&["--json"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let lines = finished.json();
    assert_eq!(lines.len(), 1);
    let told = &lines[0];
    assert_eq!(told["schema"], 1);
    assert_eq!(told["type"], "lint");
    assert_eq!(told["rule"], "shared-log");
    assert_eq!(told["severity"], "warning");
    assert_eq!(told["cause"], "shared-config");
    assert_eq!(told["file"], "supervisord.conf");
    assert_eq!(told["line"], 5);
    assert_eq!(told["path"], case.path("x.log"));
    assert_eq!(told["related"][0]["line"], 9);
}

#[test]
fn what_is_right_is_said_to_be() {
    let case = Case::new(&TWO_ON_ONE.replace("x.log", "%(program_name)s.log"));
    let finished = case.lint(&[]);
    assert_eq!(finished.code, Some(0), "{}", finished.stdout());
    assert_eq!(
        finished.stderr,
        "fdwatch: nothing found in the logs of 2 processes\n"
    );
    assert!(finished.output.is_empty());
    let finished = case.lint(&["--json"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    assert!(finished.output.is_empty());
}

#[test]
fn what_supervisord_would_refuse_is_told() {
    let case = Case::new(TWO_ON_ONE);
    case.write("broken.conf", "[supervisord]\n\nwhat is this\n");
    let finished = case.lint(&["broken.conf"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let said = finished.stdout();
    let refused = "broken.conf:3: critical: supervisord does not start: expected [section] or \
                   `key = value`: \"what is this\" [refused]\n";
    assert!(said.ends_with(refused), "{said}");
    assert!(said.starts_with("supervisord.conf:5: warning"), "{said}");
}

#[test]
fn links_and_hard_links_are_seen_through() {
    let case = Case::new(
        &TWO_ON_ONE
            .replacen("x.log", "real/x.log", 1)
            .replace("s/x.log", "s/link/../link/x.log"),
    );
    fs::create_dir(case.path("real")).unwrap();
    symlink("real", case.path("link")).unwrap();
    // It need not be there.
    let told = case.lint(&[]).stdout();
    assert!(told.contains("(same file, through links)"), "{told}");
    fs::write(case.path("real/x.log"), "").unwrap();
    fs::remove_file(case.path("link")).unwrap();
    fs::create_dir(case.path("link")).unwrap();
    assert_eq!(case.lint(&[]).code, Some(0));
    fs::hard_link(case.path("real/x.log"), case.path("link/x.log")).unwrap();
    let told = case.lint(&[]).stdout();
    assert!(told.contains("(same file, through links)"), "{told}");
}

#[test]
fn logrotate_s_files_are_read() {
    let case = Case::new(&TWO_ON_ONE.replacen("x.log", "y.log", 1));
    let all = case.path("*.log");
    case.write("rotate.d/all", &format!("{all} {{\n copytruncate\n}}\n"));
    case.write("rotate.d/old.dpkg-old", &format!("{all} {{ }}\n"));
    let lines = case.lint(&["--json"]).json();
    let rules: Vec<_> = lines.iter().map(|told| &told["rule"]).collect();
    // supervisord's own, and both programs'.
    assert_eq!(rules, ["rotated-twice"; 3]);
    assert_eq!(lines[0]["related"][0]["file"], case.path("rotate.d/all"));
    assert_eq!(lines[0]["related"][0]["line"], 1);
}

#[test]
fn who_may_write_is_asked_of_the_host() {
    use std::os::unix::fs::PermissionsExt as _;
    if !common::is_root() {
        return;
    }
    let text = TWO_ON_ONE.replace("[supervisord]\n", "[supervisord]\nuser=nobody\n");
    let text = text.replacen("x.log", "open/x.log", 1);
    let case = Case::new(&text);
    let allow = |name: &str, mode| {
        fs::set_permissions(case.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(case.path("open")).unwrap();
    allow("open", 0o777);
    allow("", 0o755);
    let rules = |finished: &Finished| -> Vec<String> {
        let lines = finished.json();
        lines
            .iter()
            .map(|told| told["rule"].as_str().unwrap().to_owned())
            .collect()
    };
    // supervisord's own, and one program's.
    assert_eq!(rules(&case.lint(&["--json"])), ["unwritable-log"; 2]);
    for name in ["x.log", "supervisord.log"] {
        case.write(name, "");
        allow(name, 0o666);
    }
    assert_eq!(rules(&case.lint(&["--json"])), ["unrotatable-log"; 2]);
    allow("", 0o777);
    assert_eq!(case.lint(&[]).code, Some(0));
}

#[test]
fn what_is_in_a_configuration_does_nothing_to_a_terminal() {
    let case = Case::new("[supervisord]\nlogfile=%(here)s/s.log\n[\u{1b}[2Jevil\u{202e}]\na=1\n");
    let told = case.lint(&[]).stdout();
    assert!(told.contains("\\x1b[2Jevil\\u{202e}"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let case = Case::new(TWO_ON_ONE);
    for (arguments, named) in [
        (&["none.conf"][..], "none.conf"),
        (&["--logrotate", "/none"], "cannot be used multiple times"),
        (&["."], "Is a directory"),
    ] {
        let finished = case.lint(arguments);
        assert!(finished.error().contains(named), "{}", finished.stderr);
    }
    let finished = run(fdwatch(["lint"]));
    assert!(finished.error().contains("FILE"), "{}", finished.stderr);
    let arguments = ["lint", "/dev/null", "--logrotate", "/none/rotate.d"];
    let finished = run(fdwatch(arguments));
    assert!(
        finished.error().contains("/none/rotate.d"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let case = Case::new(TWO_ON_ONE);
    for json in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = fdwatch(["lint", &case.path("supervisord.conf")]);
        command.args(json).stdout(writer).stderr(Stdio::null());
        assert_eq!(Guard::spawn(&mut command).wait(), Some(2));
    }
}

/// Of many kinds, for a real supervisord.
const REAL: &str = "[unix_http_server]
file=%(here)s/socket
[supervisord]
nodaemon=true
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s/made
identifier=mine
environment=PLACE=\"logs\"
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files=more/*.conf
[program:many]
command=/bin/cat
autostart=false
numprocs=3
numprocs_start=8
process_name=%(program_name)s_%(process_num)02d
stdout_logfile=%(here)s/%(ENV_PLACE)s/%(group_name)s-%(process_num)03x.log ; each its own
redirect_stderr=true
[program:one]
command=/bin/cat
autostart=false
stdout_logfile=logs/%(host_node_name)s-%(program_name)s.log
stderr_logfile=/dev/null
[program:none]
command=/bin/cat
autostart=false
stdout_logfile=NONE
[eventlistener:listener]
command=/bin/cat
autostart=false
events=TICK_3600
stderr_logfile=%(here)s/logs/listener.%(numprocs)s.log
[group:both]
programs=one,none
";

const MORE: &str = "[program:included]
command=/bin/cat
autostart=false
directory=/
stdout_logfile=%(here)s/included-100%%%%.log
stderr_logfile=~/err.log
";

/// A real one, in the case's directory.
fn supervisord(case: &Case) -> Guard {
    let mut command = Command::new(SUPERVISORD);
    command
        .args(["-c", "supervisord.conf"])
        .current_dir(case.directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Guard::spawn(&mut command)
}

/// What supervisord says of its processes, by their full names: the logs of both streams.
fn logs_of_a_supervisord(case: &Case) -> BTreeMap<String, [String; 2]> {
    const ASK: &str = "
import sys, json, xmlrpc.client
from supervisor.xmlrpc import SupervisorTransport
transport = SupervisorTransport(serverurl='unix://' + sys.argv[1])
proxy = xmlrpc.client.ServerProxy('http://x', transport)
print(json.dumps({p['group'] + ':' + p['name']: [p['stdout_logfile'], p['stderr_logfile']]
                  for p in proxy.supervisor.getAllProcessInfo()}))
";
    let mut daemon = supervisord(case);
    let socket = case.path("socket");
    let answer = eventually("an answer of supervisord", || {
        let ended = daemon.0.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "supervisord refuses it: {ended:?}");
        if !Path::new(&socket).exists() {
            return None;
        }
        let mut command = Command::new(common::PYTHON);
        command.args(["-c", ASK, &socket]);
        let finished = run(command);
        (finished.code == Some(0)).then(|| finished.stdout())
    });
    daemon.signal(libc::SIGTERM);
    daemon.wait();
    serde_json::from_str(&answer).expect("it is JSON")
}

#[test]
fn logs_are_those_of_a_real_supervisord() {
    if !common::program(SUPERVISORD) || !common::program(common::PYTHON) {
        return;
    }
    let case = Case::new(REAL);
    for name in ["logs", "made", "more"] {
        fs::create_dir(case.path(name)).unwrap();
    }
    case.write("more/one.conf", MORE);
    let told = logs_of_a_supervisord(&case);
    let config = supervisor::read(&case.path("supervisord.conf"), &RealHost).unwrap();
    assert_eq!(config.faults, []);
    assert_eq!(config.processes.len(), told.len());
    for process in &config.processes {
        let name = format!("{}:{}", process.group, process.name);
        for (stream, told) in Stream::ALL.into_iter().zip(&told[&name]) {
            match &process.log(stream).target {
                Target::None => assert_eq!(told, "", "{name}"),
                Target::Path { reported: path, .. } => assert_eq!(told, path, "{name}"),
                Target::Auto(prefix) => {
                    assert!(told.starts_with(prefix.as_str()), "{name}: {told}");
                }
            }
            // What it is for is known from its path alone.
            if told.starts_with('/') && told != "/dev/null" {
                let uses = supervisor::uses(&config, told, str::to_owned);
                let [used] = uses[..] else {
                    panic!("not of one: {told}: {uses:?}");
                };
                let supervisor::LogOwner::Stream {
                    process: index,
                    stream: of,
                } = used.of
                else {
                    panic!("not a process's: {told}");
                };
                assert_eq!((&config.processes[index], of), (process, stream));
            }
        }
    }
}

#[test]
fn what_is_said_of_logs_that_cannot_be_opened_is_so() {
    if !common::program(SUPERVISORD) {
        return;
    }
    for (redirects, ends) in [(false, 6), (true, 4)] {
        let case = Case::new(&format!(
            "[supervisord]\nnodaemon=true\nlogfile=%(here)s/supervisord.log\n\
             pidfile=%(here)s/pid\n[program:a]\ncommand=/bin/cat\nstartretries=0\n\
             stdout_logfile=%(here)s/directory\nredirect_stderr={redirects}\n"
        ));
        fs::create_dir(case.path("directory")).unwrap();
        let told = case.lint(&[]).stdout();
        let claim = format!("leaves {ends} pipe descriptors open");
        assert!(told.contains(&claim), "{told}");

        let mut daemon = supervisord(&case);
        eventually("the end of all attempts", || {
            let log = fs::read_to_string(case.path("supervisord.log")).ok()?;
            log.contains("entered FATAL state").then_some(())
        });
        // Without those that were there before it.
        let inherited = pipes("self");
        let mut left = pipes(&daemon.pid().to_string());
        left.retain(|pipe| !inherited.contains(pipe));
        assert_eq!(left.len(), ends);
        daemon.signal(libc::SIGTERM);
        daemon.wait();
    }
}

/// The pipes that a process holds, once for each descriptor.
fn pipes(process: &str) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("it can be read");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let links = links.map(|link| link.to_string_lossy().into_owned());
    links.filter(|link| link.starts_with("pipe:")).collect()
}
