//! `fdwatch lint`: its reports on configurations, and the logs it derives, compared with those of a real
//! supervisord.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_host::supervisor_host::RealHost;
use fdwatch_supervisor::{Stream, Target};
use fdwatch_test_support::{Finished, Guard, PYTHON, eventually, fdwatch, is_root, program, run};
use tempfile::TempDir;

const SUPERVISORD: &str = "/usr/bin/supervisord";

/// A configuration in its own directory, without logrotate files.
struct Case {
    directory: TempDir,
}

impl Case {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        let case = Self { directory };
        case.write("supervisord.conf", text);
        fs::create_dir(case.path("rotate.d")).expect("cannot create a directory");
        case
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().expect("not UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("cannot write a file");
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
fn faults_are_reported_with_line() {
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
fn faults_are_reported_as_json() {
    let case = Case::new(TWO_ON_ONE);
    let finished = case.lint(&["--json"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let lines = finished.json();
    assert_eq!(lines.len(), 1);
    let reported = &lines[0];
    assert_eq!(reported["schema"], 1);
    assert_eq!(reported["type"], "lint");
    assert_eq!(reported["rule"], "shared-log");
    assert_eq!(reported["severity"], "warning");
    assert_eq!(reported["cause"], "shared-config");
    assert_eq!(reported["file"], "supervisord.conf");
    assert_eq!(reported["line"], 5);
    assert_eq!(reported["path"], case.path("x.log"));
    assert_eq!(reported["related"][0]["line"], 9);
}

#[test]
fn correct_configuration_passes() {
    let case = Case::new(&TWO_ON_ONE.replace("x.log", "%(program_name)s.log"));
    let finished = case.lint(&[]);
    assert_eq!(finished.code, Some(0), "{}", finished.stdout());
    assert_eq!(
        finished.stderr,
        "fdwatch: no problems in the log settings of 2 processes\n"
    );
    assert!(finished.output.is_empty());
    let finished = case.lint(&["--json"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    assert!(finished.output.is_empty());
}

#[test]
fn invalid_configuration_is_reported() {
    let case = Case::new(TWO_ON_ONE);
    case.write("broken.conf", "[supervisord]\n\nwhat is this\n");
    let finished = case.lint(&["broken.conf"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let message = finished.stdout();
    let refused = "broken.conf:3: critical: supervisord does not start: expected [section] or \
                   `key = value`: \"what is this\" [refused]\n";
    assert!(message.ends_with(refused), "{message}");
    assert!(
        message.starts_with("supervisord.conf:5: warning"),
        "{message}"
    );
}

#[test]
fn links_to_one_log_are_resolved() {
    let case = Case::new(
        &TWO_ON_ONE
            .replacen("x.log", "real/x.log", 1)
            .replace("s/x.log", "s/link/../link/x.log"),
    );
    fs::create_dir(case.path("real")).unwrap();
    symlink("real", case.path("link")).unwrap();
    // The target of a link need not exist.
    let reported = case.lint(&[]).stdout();
    assert!(
        reported.contains("(same file, through links)"),
        "{reported}"
    );
    fs::write(case.path("real/x.log"), "").unwrap();
    fs::remove_file(case.path("link")).unwrap();
    fs::create_dir(case.path("link")).unwrap();
    assert_eq!(case.lint(&[]).code, Some(0));
    fs::hard_link(case.path("real/x.log"), case.path("link/x.log")).unwrap();
    let reported = case.lint(&[]).stdout();
    assert!(
        reported.contains("(same file, through links)"),
        "{reported}"
    );
}

#[test]
fn logrotate_rules_are_read() {
    let case = Case::new(&TWO_ON_ONE.replacen("x.log", "y.log", 1));
    let all = case.path("*.log");
    case.write("rotate.d/all", &format!("{all} {{\n copytruncate\n}}\n"));
    case.write("rotate.d/old.dpkg-old", &format!("{all} {{ }}\n"));
    let lines = case.lint(&["--json"]).json();
    let rules: Vec<_> = lines.iter().map(|reported| &reported["rule"]).collect();
    // supervisord's own log, and those of both programs.
    assert_eq!(rules, ["rotated-twice"; 3]);
    assert_eq!(lines[0]["related"][0]["file"], case.path("rotate.d/all"));
    assert_eq!(lines[0]["related"][0]["line"], 1);
}

#[test]
fn write_permission_is_checked_on_host() {
    use std::os::unix::fs::PermissionsExt as _;
    if !is_root() {
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
            .map(|reported| reported["rule"].as_str().unwrap().to_owned())
            .collect()
    };
    // supervisord's own log, and that of one program.
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
fn configuration_is_escaped_in_output() {
    let case = Case::new("[supervisord]\nlogfile=%(here)s/s.log\n[\u{1b}[2Jevil\u{202e}]\na=1\n");
    let reported = case.lint(&[]).stdout();
    assert!(reported.contains("\\x1b[2Jevil\\u{202e}"), "{reported}");
    assert!(!reported.contains('\u{1b}'), "{reported}");
}

#[test]
fn unreadable_configuration_is_an_error() {
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
fn closed_pipe_causes_no_panic() {
    let case = Case::new(TWO_ON_ONE);
    for json in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = fdwatch(["lint", &case.path("supervisord.conf")]);
        command.args(json).stdout(writer).stderr(Stdio::null());
        assert_eq!(Guard::spawn(&mut command).wait(), Some(0));
    }
}

/// A configuration with many kinds of logs, for a real supervisord.
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

/// Starts a real supervisord in the case's directory.
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

/// Returns the logs of both streams of each process, as supervisord reports them.
fn logs_of_a_supervisord(case: &Case) -> BTreeMap<String, [String; 2]> {
    const SCRIPT: &str = "
import sys, json, xmlrpc.client
from supervisor.xmlrpc import SupervisorTransport
transport = SupervisorTransport(serverurl='unix://' + sys.argv[1])
proxy = xmlrpc.client.ServerProxy('http://x', transport)
print(json.dumps({p['group'] + ':' + p['name']: [p['stdout_logfile'], p['stderr_logfile']]
                  for p in proxy.supervisor.getAllProcessInfo()}))
";
    let mut daemon = supervisord(case);
    let socket = case.path("socket");
    let answer = eventually("a response from supervisord", || {
        let ended = daemon.0.try_wait().expect("cannot wait for a child");
        assert!(ended.is_none(), "supervisord exited: {ended:?}");
        if !Path::new(&socket).exists() {
            return None;
        }
        let mut command = Command::new(PYTHON);
        command.args(["-c", SCRIPT, &socket]);
        let finished = run(command);
        (finished.code == Some(0)).then(|| finished.stdout())
    });
    daemon.signal(libc::SIGTERM);
    daemon.wait();
    serde_json::from_str(&answer).expect("not JSON")
}

#[test]
fn derived_logs_match_real_supervisord() {
    if !program(SUPERVISORD) || !program(PYTHON) {
        return;
    }
    let case = Case::new(REAL);
    for name in ["logs", "made", "more"] {
        fs::create_dir(case.path(name)).unwrap();
    }
    case.write("more/one.conf", MORE);
    let reported = logs_of_a_supervisord(&case);
    let config = fdwatch_supervisor::read(&case.path("supervisord.conf"), &RealHost).unwrap();
    assert_eq!(config.faults, []);
    assert_eq!(config.processes.len(), reported.len());
    for process in &config.processes {
        let name = format!("{}:{}", process.group, process.name);
        for (stream, reported) in Stream::ALL.into_iter().zip(&reported[&name]) {
            match &process.log(stream).target {
                Target::None => assert_eq!(reported, "", "{name}"),
                Target::Path { reported: path, .. } => assert_eq!(reported, path, "{name}"),
                Target::Auto(prefix) => {
                    assert!(reported.starts_with(prefix.as_str()), "{name}: {reported}");
                }
            }
            // The log's purpose is known from its path alone.
            if reported.starts_with('/') && reported != "/dev/null" {
                let uses = fdwatch_supervisor::uses(&config, reported, str::to_owned);
                let [used] = uses[..] else {
                    panic!("expected one use: {reported}: {uses:?}");
                };
                let fdwatch_supervisor::LogOwner::Stream {
                    process: index,
                    stream: of,
                } = used.of
                else {
                    panic!("not the log of a process: {reported}");
                };
                assert_eq!((&config.processes[index], of), (process, stream));
            }
        }
    }
}

#[test]
fn unopenable_log_fails_in_real_supervisord() {
    if !program(SUPERVISORD) {
        return;
    }
    for (redirects, ends) in [(false, 6), (true, 4)] {
        let case = Case::new(&format!(
            "[supervisord]\nnodaemon=true\nlogfile=%(here)s/supervisord.log\n\
             pidfile=%(here)s/pid\n[program:a]\ncommand=/bin/cat\nstartretries=0\n\
             stdout_logfile=%(here)s/directory\nredirect_stderr={redirects}\n"
        ));
        fs::create_dir(case.path("directory")).unwrap();
        let reported = case.lint(&[]).stdout();
        let claim = format!("leaves {ends} pipe descriptors open");
        assert!(reported.contains(&claim), "{reported}");

        let mut daemon = supervisord(&case);
        eventually("failed starts", || {
            let log = fs::read_to_string(case.path("supervisord.log")).ok()?;
            log.contains("entered FATAL state").then_some(())
        });
        // Without those from before.
        let inherited = pipes("self");
        let mut left = pipes(&daemon.pid().to_string());
        left.retain(|pipe| !inherited.contains(pipe));
        assert_eq!(left.len(), ends);
        daemon.signal(libc::SIGTERM);
        daemon.wait();
    }
}

/// Counts the descriptors of each pipe that a process holds.
fn pipes(process: &str) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("cannot read a file");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let links = links.map(|link| link.to_string_lossy().into_owned());
    links.filter(|link| link.starts_with("pipe:")).collect()
}
