//! `fdwatch run` is transparent: it does not affect the exit code, signals, terminal and streams of the command.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_test_support::{Guard, PYTHON, bpf, eventually, fdwatch, is_root, program, run};

use super::run::{python, report};

#[test]
fn exit_code_is_the_commands() {
    if !bpf() {
        return;
    }
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let report = report(&["--error-exitcode", "99"], &["sh", "-c", script]);
        assert_eq!(
            report.finished.code,
            Some(code),
            "{}",
            report.finished.stderr
        );
        assert_eq!(report.run["exit_code"], code);
        report.assert_clean();
    }
    for (command, code, reason) in [
        ("no-such-command", 127, "command not found"),
        ("/etc/passwd", 126, "ermission"),
    ] {
        let finished = run(fdwatch(["run", "--", command]));
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(reason) && finished.stderr.contains(command));
    }
}

/// Starts a command under fdwatch that prints when it is ready, and each signal it receives.
fn start(
    options: &[&str],
    command: &[&str],
) -> (Guard, std::io::BufReader<std::process::ChildStdout>) {
    let mut whole = fdwatch(["run", "--quiet"]);
    whole.args(options).arg("--").args(command);
    whole.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut guard = Guard::spawn(&mut whole);
    let output = guard.0.stdout.take().expect("the pipe was requested");
    (guard, std::io::BufReader::new(output))
}

fn line(output: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    let read = output.read_line(&mut line);
    read.expect("not UTF-8");
    line.trim_end().to_owned()
}

#[test]
fn signals_arrive_once() {
    if !bpf() {
        return;
    }
    let script = "
import signal, sys
names = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGTERM']
numbers = [getattr(signal, name) for name in names]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print('ready', flush=True)
while True:
    came = signal.sigwait(numbers)
    print(signal.Signals(came).name, flush=True)
    if came == signal.SIGTERM:
        # A second signal would be pending by now or soon.
        print(signal.sigtimedwait(numbers, 0.2), flush=True)
        sys.exit(5)
";
    let (mut guard, mut output) = start(&[], &python(script));
    assert_eq!(line(&mut output), "ready");
    for (signal, name) in [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGTERM, "SIGTERM"),
    ] {
        guard.signal(signal);
        assert_eq!(line(&mut output), name);
    }
    assert_eq!(line(&mut output), "None");
    assert_eq!(guard.wait(), Some(5));
    // A signal without a handler ends it.
    let (mut guard, mut output) = start(&[], &["sh", "-c", "echo ready; exec sleep 1000"]);
    assert_eq!(line(&mut output), "ready");
    guard.signal(libc::SIGTERM);
    assert_eq!(guard.wait(), Some(143));
}

#[test]
fn ctrl_c_arrives_once() {
    if !bpf() {
        return;
    }
    // The command counts signals and ends by itself.
    let counter = "
import signal, sys, time
count = 0
def on_signal(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, on_signal)
print('ready', sys.stdin.isatty(), flush=True)
while not count: time.sleep(0.05)
time.sleep(0.5)
print('came', count, flush=True)
";
    let terminal = "
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b''
sent = False
while b'came' not in seen or not seen.endswith(b'\\n'):
    try: seen += os.read(fd, 1000)
    except OSError: break
    if b'ready True' in seen and not sent:
        sent = True
        os.write(fd, b'\\x03')
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let mut command = Command::new(PYTHON);
    command.args(["-I", "-c", terminal]);
    command.args([env!("CARGO_BIN_EXE_fdwatch"), "run", "--quiet", "--"]);
    command.args(python(counter));
    let finished = run(command);
    assert!(
        finished.stdout().contains("came 1"),
        "{}",
        finished.stdout()
    );
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[test]
fn shell_stops_and_continues_the_command() {
    if !bpf() || !program("/bin/bash") {
        return;
    }
    let terminal = "
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ['PS1'] = 'prompt> '
    os.execv('/bin/bash', ['bash', '--norc', '--noprofile', '-i'])
seen = b''
def wait_for(what):
    global seen
    while what not in seen:
        seen += os.read(fd, 1000)
    seen = seen.split(what, 1)[1]
def send(text): os.write(fd, text.encode())
wait_for(b'prompt> ')
send(sys.argv[1] + ' run --quiet -- sh -c \\'echo re\"\"ady; read word; echo g\"\"ot $word; exit 4\\'\\n')
wait_for(b'ready')
send('\\x1a')
wait_for(b'Stopped')
wait_for(b'prompt> ')
send('fg\\n')
wait_for(b'ady')
send('this\\n')
wait_for(b'got this')
wait_for(b'prompt> ')
send('echo co\"\"de $?\\n')
wait_for(b'code 4')
send('exit\\n')
";
    let mut command = Command::new(PYTHON);
    command.args(["-I", "-c", terminal, env!("CARGO_BIN_EXE_fdwatch")]);
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[test]
fn standard_streams_are_the_commands() {
    if !bpf() {
        return;
    }
    let (mut guard, mut output) = start(&[], &["cat"]);
    let mut input = guard.0.stdin.take().unwrap();
    for text in ["one", "two"] {
        writeln!(input, "{text}").unwrap();
        assert_eq!(line(&mut output), text);
    }
    drop(input);
    assert_eq!(guard.wait(), Some(0));
    assert_eq!(line(&mut output), "");
}

#[test]
fn surviving_children_are_named_or_awaited() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [log, go] = ["log", "go"].map(|name| directory.path().join(name));
    let script = format!(
        "
import os, time
if os.fork(): os._exit(3)
os.setsid()
if os.fork(): os._exit(0)
open({:?}, 'w').close()
fd = os.open({:?}, os.O_WRONLY | os.O_CREAT)
for stream in range(3): os.close(stream)
while not os.path.exists({go:?}): time.sleep(0.01)
",
        directory.path().join("there").to_str().unwrap(),
        log.to_str().unwrap(),
    );
    let left = report(&[], &python(&script));
    assert_eq!(left.finished.code, Some(3));
    left.assert_clean();
    let running = left.run["running"].as_array().unwrap();
    assert!(!running.is_empty(), "{}", left.run);
    eventually("the daemon", || {
        directory.path().join("there").exists().then_some(())
    });
    File::create(&go).unwrap();
    for process in running {
        let stat = format!("/proc/{}/stat", process["pid"]);
        eventually("the end of the daemon", || {
            (!Path::new(&stat).exists()).then_some(())
        });
    }

    let waited = report(&["--wait"], &python(&script));
    assert_eq!(waited.finished.code, Some(3));
    assert_eq!(waited.run["running"].as_array().map(Vec::len), Some(0));
    assert_eq!(waited.leaks.len(), 1, "{:?}", waited.leaks);
    assert_eq!(waited.leaks[0]["file"]["path"], log.to_str().unwrap());
    assert_eq!(waited.run["processes"], 3);
}

#[test]
fn unprivileged_run_does_not_start_command() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let touch = ["run", "--", "touch", marker.to_str().unwrap()];
    let finished = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        command.arg(env!("CARGO_BIN_EXE_fdwatch")).args(touch);
        run(command)
    } else {
        run(fdwatch(touch))
    };
    assert!(
        finished.error().contains("privileges"),
        "{}",
        finished.stderr
    );
    assert!(!marker.exists());
}

#[test]
fn killed_fdwatch_leaves_no_waiting_child() {
    if !bpf() {
        return;
    }
    for _ in 0..3 {
        let mut whole = fdwatch(["run", "--quiet", "--", "true"]);
        let mut guard = Guard::spawn(&mut whole);
        // It is a child of one of fdwatch's threads.
        let tasks = format!("/proc/{}/task", guard.pid());
        let child = eventually("its child", || {
            let tasks = fs::read_dir(&tasks).ok()?.flatten();
            let mut children =
                tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            children.find_map(|children| children.split_whitespace().next()?.parse::<u32>().ok())
        });
        guard.signal(libc::SIGKILL);
        guard.wait();
        eventually("the exit of its child", || {
            (!Path::new(&format!("/proc/{child}")).exists()).then_some(())
        });
    }
}
