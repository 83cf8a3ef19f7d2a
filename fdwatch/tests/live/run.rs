//! `fdwatch run`: reports leaked, inherited and duplicate descriptors of a command and its children.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fdwatch_test_support::{Finished, PYTHON, bpf, fdwatch, parse, program, run};
use serde_json::Value;
use tempfile::TempDir;

const CC: &str = "/usr/bin/cc";

/// A C program that leaks two files and a socket, in separate functions.
const LEAKY: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static int open_log(const char *path) { return open(path, O_WRONLY | O_CREAT, 0644); }
static FILE *read_settings(const char *path) { return fopen(path, "r"); }
static int make_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
int main(int argc, char **argv) {
    int log = open_log(argv[1]);
    FILE *settings = read_settings(argv[2]);
    int connection = make_socket();
    close(open_log(argv[1]));
    return argc == 3 && log > 2 && settings && connection > 2 ? 0 : 1;
}
"#;

/// Reports of `fdwatch run` about a command.
pub(crate) struct Report {
    pub(crate) finished: Finished,
    pub(crate) leaks: Vec<Value>,
    findings: Vec<Value>,
    /// The last line.
    pub(crate) run: Value,
}

impl Report {
    /// Returns the leaks of this kind.
    fn of(&self, kind: &str) -> Vec<&Value> {
        let leaks = self.leaks.iter();
        leaks.filter(|leak| leak["kind"] == kind).collect()
    }

    /// Asserts that there was no finding and no loss.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert!(self.leaks.is_empty(), "{:?}", self.leaks);
        assert!(self.findings.is_empty(), "{:?}", self.findings);
        self.assert_complete();
    }

    #[track_caller]
    fn assert_complete(&self) {
        for count in [
            &self.run["lost"]["total"],
            &self.run["detail_left_out"],
            &self.run["mappings_lost"],
        ] {
            assert_eq!(*count, 0, "{}", self.run);
        }
    }
}

/// Runs a command with `fdwatch run`.
pub(crate) fn report(options: &[&str], command: &[&str]) -> Report {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let json = directory.path().join("reported.json");
    let mut whole = fdwatch(["run", "--json"]);
    whole.arg(&json).args(options).arg("--").args(command);
    let finished = run(whole);
    let text = fs::read_to_string(json).expect("not written");
    let lines: Vec<_> = text.lines().map(parse).collect();
    let of = |kind: &str| {
        let lines = lines.iter().filter(|line| line["type"] == kind);
        lines.cloned().collect()
    };
    let last = lines.last().cloned().unwrap_or_default();
    assert_eq!(last["type"], "run", "{}", finished.stderr);
    Report {
        finished,
        leaks: of("leak"),
        findings: of("finding"),
        run: last,
    }
}

/// A compiled program in its own directory.
struct Program {
    directory: TempDir,
    path: PathBuf,
}

impl Program {
    fn leaky() -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        let source = directory.path().join("leaky.c");
        let path = directory.path().join("leaky");
        fs::write(&source, LEAKY).expect("cannot write a file");
        let mut compiler = Command::new(CC);
        compiler.arg("-g").arg("-o").arg(&path).arg(source);
        let compiled = run(compiler);
        assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
        Self { directory, path }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("first.log")
    }

    /// Returns the command line that runs it.
    fn words(&self) -> [String; 3] {
        let text = |path: &Path| path.to_str().expect("not UTF-8").to_owned();
        [
            text(&self.path),
            text(&self.log()),
            "/etc/passwd".to_owned(),
        ]
    }
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Returns the command line of a Python that opens no descriptors besides the script's.
pub(crate) fn python(script: &str) -> Vec<&str> {
    vec![PYTHON, "-I", "-S", "-c", script]
}

fn symbols(fd: &Value) -> Vec<&str> {
    let stack = fd["stack"].as_array().map_or(&[][..], Vec::as_slice);
    stack
        .iter()
        .filter_map(|frame| frame["symbol"].as_str())
        .collect()
}

#[test]
fn leaks_name_the_opening_functions() {
    if !bpf() || !program(CC) {
        return;
    }
    let program = Program::leaky();
    let words_of = program.words();
    let report = report(&[], &words(&words_of));
    assert_eq!(report.finished.code, Some(0), "{}", report.finished.stderr);
    report.assert_complete();
    let leaks = report.of("exit");
    assert_eq!(leaks.len(), 3, "{leaks:?}");
    let expected = [
        (
            Some(words_of[1].as_str()),
            "regular",
            "w",
            "open_log",
            "openat",
        ),
        (
            Some("/etc/passwd"),
            "regular",
            "r",
            "read_settings",
            "openat",
        ),
        (None, "socket", "rw", "make_socket", "socket"),
    ];
    for (leak, (path, file_type, access, function, origin)) in leaks.iter().zip(expected) {
        assert_eq!(leak["file"]["path"].as_str(), path, "{leak}");
        assert_eq!(leak["file"]["type"], file_type, "{leak}");
        assert_eq!(leak["process"]["comm"], "leaky", "{leak}");
        assert_eq!(leak["process"]["exe"], words_of[0].as_str(), "{leak}");
        assert_eq!(leak["process"]["pid"], leak["fd"]["tid"], "{leak}");
        assert_eq!(leak["count"], 1, "{leak}");
        let fd = &leak["fd"];
        assert_eq!(
            (&fd["access"], &fd["origin"]),
            (&access.into(), &origin.into())
        );
        let symbols = symbols(fd);
        let at = |name| symbols.iter().position(|&symbol| symbol == name);
        assert!(
            at(function).is_some() && at(function) < at("main"),
            "{leak}"
        );
        if cfg!(target_arch = "x86_64") {
            let stack = fd["stack"].as_array().unwrap();
            let main = &stack[at("main").unwrap()];
            assert!(
                main["file"].as_str().unwrap().ends_with("leaky.c"),
                "{main}"
            );
            assert!(main["line"].as_u64() > Some(8), "{main}");
        }
    }
    // And as text.
    let message = &report.finished.stderr;
    for part in [
        "LEAKED",
        "open_log (leaky.c:6)",
        "read_settings",
        "3 descriptors left open at exit",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(report.finished.output.is_empty());
}

#[test]
fn fd_kept_across_exec_names_both_programs() {
    if !bpf() {
        return;
    }
    let script = "
import os, subprocess
def open_secret():
    fd = os.open('/etc/hostname', os.O_RDONLY)
    os.set_inheritable(fd, True)
    return fd
fd = open_secret()
kept = os.open('/etc/passwd', os.O_RDONLY)
for _ in range(3):
    subprocess.run(['/bin/true'], close_fds=False)
subprocess.run(['/bin/cat'], stdin=fd, stdout=subprocess.DEVNULL)
os.close(kept)
os.close(fd)
";
    let report = report(&[], &python(script));
    assert_eq!(report.finished.code, Some(0), "{}", report.finished.stderr);
    report.assert_complete();
    assert_eq!(report.leaks.len(), 1, "{:?}", report.leaks);
    let leak = &report.leaks[0];
    assert_eq!(leak["kind"], "exec");
    assert_eq!(leak["file"]["path"], "/etc/hostname");
    assert_eq!(leak["process"]["pid"], leak["fd"]["tid"]);
    assert_eq!(leak["count"], 3);
    let into = leak["into"].as_array().unwrap();
    assert_eq!(into.len(), 3, "{leak}");
    for process in into {
        assert_eq!(process["comm"], "true");
        assert_ne!(process["pid"], leak["process"]["pid"]);
    }
    assert!(
        symbols(&leak["fd"])
            .iter()
            .any(|symbol| symbol.contains("open")),
        "{leak}"
    );
}

#[test]
fn shells_with_pipes_and_redirections_leak_nothing() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    let text = "cd \"$(dirname \"$0\")\"\necho one | cat >log 2>&1\n(echo two; echo three >&2) >>log 2>&1\n\
        exec 2>/dev/null\nwhile read -r line; do echo \"$line\"; done <log | sort | uniq -c\n";
    fs::write(&script, text).unwrap();
    let path = script.to_str().unwrap();
    for shell in ["/bin/sh", "/bin/bash"] {
        for command in [&[shell, "-c", text, path][..], &[shell, path]] {
            let report = report(&[], command);
            report.assert_clean();
            assert_eq!(report.finished.code, Some(0));
            assert_eq!(report.finished.stdout().lines().count(), 3);
            fs::remove_file(directory.path().join("log")).unwrap();
        }
    }
}

#[test]
fn short_duplicates_are_reported() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("twice.log");
    let script = format!(
        "import os\nfds = [os.open({:?}, os.O_WRONLY | os.O_CREAT) for _ in range(2)]\nfor fd in fds: os.close(fd)",
        path.to_str().unwrap()
    );
    let report = report(&[], &python(&script));
    assert!(report.leaks.is_empty(), "{:?}", report.leaks);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!(finding["cause"], "reopened");
    assert_eq!(finding["file"]["path"], path.to_str().unwrap());
    let fds = finding["fds"].as_array().unwrap().iter();
    let fds: Vec<_> = fds.chain(finding["closed"].as_array().unwrap()).collect();
    assert_eq!(fds.len(), 2, "{finding}");
    assert!(fds.iter().all(|fd| !symbols(fd).is_empty()), "{finding}");
    assert_eq!(report.run["duplicates"], 1);
}

#[test]
fn error_exitcode_applies_to_successful_command() {
    if !bpf() || !program(CC) {
        return;
    }
    let program = Program::leaky();
    let leaky = program.words();
    let code = |options: &[&str]| report(options, &words(&leaky)).finished.code;
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--error-exitcode", "99"]), Some(99));
    // Without its second argument it fails, and leaks its open descriptors.
    let failing = report(
        &["--error-exitcode", "99"],
        &[&leaky[0], &leaky[1], "/nowhere"],
    );
    assert_eq!(failing.finished.code, Some(1));
    assert!(!failing.leaks.is_empty());
}

#[test]
fn ignore_rules_drop_findings() {
    if !bpf() || !program(CC) {
        return;
    }
    let program = Program::leaky();
    let leaky = program.words();
    let rules = program.directory.path().join("rules");
    let with = |text: &str| {
        fs::write(&rules, text).unwrap();
        report(
            &[
                "--error-exitcode",
                "99",
                "--ignore",
                rules.to_str().unwrap(),
            ],
            &words(&leaky),
        )
    };
    let some = with("# what is known\n/etc/*\ntype:socket comm:leaky\nkind:exec *.log\n");
    assert_eq!(some.leaks.len(), 1, "{:?}", some.leaks);
    assert_eq!(some.leaks[0]["file"]["path"], leaky[1].as_str());
    assert_eq!(some.run["ignored"], 2);
    assert_eq!(some.finished.code, Some(99));
    let all = with("comm:leak*\n");
    all.assert_clean();
    assert_eq!(all.finished.code, Some(0));

    fs::write(&rules, "/tmp/*\n\nkind:leak\n").unwrap();
    let finished = run(fdwatch([
        "run",
        "--ignore",
        rules.to_str().unwrap(),
        "--",
        "true",
    ]));
    let error = finished.error();
    assert!(
        error.contains("rules:3: ") && error.contains("duplicate"),
        "{error}"
    );
}

#[test]
fn junit_file_is_valid_xml() {
    if !bpf() || !program(CC) {
        return;
    }
    let program = Program::leaky();
    let leaky = program.words();
    let xml = program.directory.path().join("junit.xml");
    let read = "import sys, json, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
print(json.dumps([[case.get('classname'), [failure.text for failure in case.findall('failure')]] for case in root.iter('testcase')]))";
    let cases = |command: &[&str]| {
        report(&["--junit", xml.to_str().unwrap()], command);
        let mut reader = Command::new(PYTHON);
        reader.args(["-I", "-c", read]).arg(&xml);
        let finished = run(reader);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        parse(&finished.stdout())
    };
    let failing = cases(&words(&leaky));
    assert_eq!(failing[0][0], "fdwatch.exit");
    let text = failing[0][1][0].as_str().unwrap();
    assert!(
        text.contains("open_log (leaky.c:6)") && !text.contains('\x1b'),
        "{text}"
    );
    assert_eq!(failing[1], serde_json::json!(["fdwatch.exec", []]));
    let passing = cases(&["true"]);
    assert_eq!(passing.as_array().map(Vec::len), Some(3));
    assert!(
        passing
            .as_array()
            .unwrap()
            .iter()
            .all(|case| case[1] == serde_json::json!([]))
    );
}

#[test]
fn hundreds_of_processes_are_all_reported() {
    if !bpf() || !program(CC) {
        return;
    }
    let program = Program::leaky();
    let [leaky, _, other] = program.words();
    // Each in its own process, from two jobs in each of many shells.
    let script = format!(
        "for i in $(seq 100); do sh -c '{leaky} {}/$0.a {other}; {leaky} {}/$0.b {other}; true' $i & done; wait",
        program.directory.path().display(),
        program.directory.path().display()
    );
    let report = report(&[], &["bash", "-c", &script]);
    assert_eq!(report.finished.code, Some(0), "{}", report.finished.stderr);
    report.assert_complete();
    let counts: Vec<_> = report
        .leaks
        .iter()
        .map(|leak| leak["count"].as_u64())
        .collect();
    assert_eq!(counts, [Some(200); 3], "{:?}", report.leaks);
    assert!(report.leaks.iter().all(|leak| leak["processes"] == 200));
    assert_eq!(report.run["leaks"]["exit"], 600);
    assert!(
        report.run["processes"].as_u64() > Some(300),
        "{}",
        report.run
    );
}

#[test]
fn make_with_two_jobs_loses_nothing() {
    if !bpf() || !program("/usr/bin/make") || !program(CC) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..20).map(|i| format!("m{i}.o")).collect();
    for i in 0..20 {
        let source = format!("int f{i}(int x) {{ return x + {i}; }}\n");
        fs::write(directory.path().join(format!("m{i}.c")), source).unwrap();
    }
    let makefile = format!("all: {}\n%.o: %.c\n\t{CC} -c -o $@ $<\n", names.join(" "));
    fs::write(directory.path().join("Makefile"), makefile).unwrap();
    let report = report(
        &[],
        &[
            "make",
            "-s",
            "-j2",
            "-C",
            directory.path().to_str().unwrap(),
        ],
    );
    assert_eq!(report.finished.code, Some(0), "{}", report.finished.stderr);
    report.assert_complete();
    assert!(
        names
            .iter()
            .all(|name| directory.path().join(name).exists())
    );
    assert!(
        report.run["processes"].as_u64() >= Some(60),
        "{}",
        report.run
    );
    // The compiler may have its own leaks; make passes its pipe on by design.
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
