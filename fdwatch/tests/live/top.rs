//! `fdwatch top` in a real terminal (tmux): sends keys and reads screens.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use fdwatch_test_support::{DEADLINE, Puppet, agent::Agent, bpf, fdwatch, program, run};
use tempfile::TempDir;

const TMUX: &str = "/usr/bin/tmux";

/// A tmux server with one terminal.
struct Terminal {
    name: String,
    directory: TempDir,
}

impl Terminal {
    /// Starts a shell in a terminal of this size.
    fn start(columns: u16, lines: u16) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let terminal = Self {
            name: format!("fdwatch-test-{}-{number}", std::process::id()),
            directory: tempfile::tempdir().expect("cannot create a directory"),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            "env",
            "PS1=ready$ ",
            "LANG=C.UTF-8",
            "FDWATCH_AGENT=none",
            "sh",
        ]);
        terminal.wait("the shell", |screen| screen.contains("ready$"));
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(TMUX);
        command
            .args(["-L", &self.name, "-f", "/dev/null"])
            .args(arguments)
            .env_remove("TMUX")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        let finished = run(command);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        finished.stdout()
    }

    /// Types a line into the shell.
    fn line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let end = std::time::Instant::now() + DEADLINE;
        while std::time::Instant::now() < end {
            last = self.screen();
            if is_so(&last) {
                return last;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("timed out waiting for {what}\n{last}");
    }

    /// Starts `fdwatch top` and waits for its list of processes.
    fn top(&self, before: &str, arguments: &str) -> String {
        let binary = env!("CARGO_BIN_EXE_fdwatch");
        self.line(&format!(
            "clear; {before} {binary} top {arguments}; echo code=$?"
        ));
        self.wait("the processes", |screen| {
            screen.contains("F10Quit") && !screen.contains("scanning processes")
        })
    }

    /// Returns the pid of `fdwatch top`.
    fn pid(&self) -> i32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let children = children.expect("no shell");
        let first = children.split_whitespace().next();
        first
            .and_then(|pid| pid.parse().ok())
            .expect("no fdwatch binary")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new(TMUX);
        command.args(["-L", &self.name, "kill-server"]);
        let _ = command.stderr(Stdio::null()).status();
    }
}

/// Returns whether a line is the title of the list of findings, such as `3 findings`.
fn is_findings(line: &str) -> bool {
    let words = line.split(',').next().unwrap_or_default().trim_end();
    line.starts_with(|first: char| first.is_ascii_digit())
        && (words.ends_with(" findings") || words.ends_with(" finding"))
}

fn can_run() -> bool {
    bpf() && program(TMUX)
}

/// Starts a puppet that holds a file twice.
fn with_duplicate(directory: &Path) -> (Puppet, String) {
    let mut puppet = Puppet::start();
    let path = directory.join("held-twice.log");
    puppet.open(&path, "WRONLY|CREAT");
    puppet.open(&path, "WRONLY");
    (puppet, path.to_str().expect("not UTF-8").to_owned())
}

/// Filters by the puppet and opens its details.
fn open(terminal: &Terminal, puppet: &Puppet) -> String {
    let pid = puppet.pid().to_string();
    terminal.text(&format!("/{pid}"));
    terminal.wait("a list with the puppet only", |screen| {
        let rows = screen.lines().skip(3);
        let mut rows = rows.take_while(|line| !is_findings(line));
        rows.next()
            .is_some_and(|row| row.trim_start().starts_with(&pid))
            && rows.all(|row| row.trim().is_empty())
    });
    terminal.keys(&["Enter", "Enter"]);
    terminal.wait("both descriptors", |screen| {
        screen.contains("again")
            && screen.contains("held-twice.log")
            && screen.contains("(reopened, warning)")
    });
    terminal.keys(&["Tab", "End"]);
    terminal.wait("the advice", |screen| screen.contains("What to change"))
}

#[test]
fn duplicate_is_shown_and_screen_restored() {
    if !can_run() {
        return;
    }
    let terminal = Terminal::start(120, 40);
    let file = |name: &str| terminal.directory.path().join(name).display().to_string();
    terminal.line(&format!("stty -a >{}; echo before-top", file("before")));
    terminal.wait("a line", |screen| screen.contains("\nbefore-top"));
    terminal.top("", "--max-cpu 100");
    // An event while it runs appears.
    let (puppet, path) = with_duplicate(terminal.directory.path());
    let name = Path::new(&path).file_name().and_then(|name| name.to_str());
    let name = name.expect("no name");
    terminal.wait("the finding", |screen| screen.contains(name));
    let screen = open(&terminal, &puppet);
    assert!(screen.contains("EXPLANATION"), "{screen}");
    terminal.keys(&["q"]);
    terminal.wait("the list", |screen| screen.lines().any(is_findings));
    terminal.keys(&["Escape"]);
    // Text right after Escape would form another key.
    terminal.wait("all processes", |screen| !screen.contains(", filter '"));
    terminal.text("N");
    terminal.wait("the list sorted by PID", |screen| screen.contains("PID▲"));
    terminal.keys(&["F6"]);
    terminal.wait("the menu of sort keys", |screen| screen.contains("Sort by"));
    terminal.keys(&["Escape"]);
    terminal.wait("the list", |screen| !screen.contains("Sort by"));
    terminal.keys(&["F1"]);
    terminal.wait("help", |screen| screen.contains("PROCESSES AND FINDINGS"));
    terminal.keys(&["x", "Space"]);
    terminal.wait("the frozen list", |screen| screen.contains("frozen"));
    terminal.keys(&["Space"]);
    terminal.tmux(&["resize-window", "-x", "60", "-y", "15"]);
    terminal.wait("the smaller screen", |screen| {
        screen.contains("LIMIT") && !screen.contains("USER")
    });
    terminal.tmux(&["resize-window", "-x", "30", "-y", "8"]);
    terminal.wait("the message about the size", |screen| {
        screen.contains("too small")
    });
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    terminal.wait("the full screen", |screen| screen.contains("UNIT"));
    terminal.keys(&["q"]);
    let screen = terminal.wait("the end", |screen| screen.contains("code=0"));
    assert!(!screen.lines().any(is_findings), "{screen}");
    terminal.line(&format!("stty -a >{}; echo after-top", file("after")));
    terminal.wait("a line", |screen| screen.contains("\nafter-top"));
    let read = |name: &str| fs::read_to_string(file(name)).expect("no output of stty");
    assert_eq!(read("before"), read("after"));
}

#[test]
fn signals_restore_the_terminal() {
    if !can_run() {
        return;
    }
    let terminal = Terminal::start(80, 24);
    let stty = terminal.directory.path().join("stty");
    for (signal, code) in [(libc::SIGTERM, "code=0"), (libc::SIGHUP, "code=0")] {
        terminal.top("", "--max-cpu 100");
        // SAFETY: the shell has not waited for the process, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(terminal.pid(), signal) }, 0);
        terminal.wait("the end", |screen| screen.contains(code));
        terminal.line(&format!("stty -a >{}; clear; echo is-back", stty.display()));
        terminal.wait("the shell", |screen| screen.starts_with("is-back"));
        let settings = fs::read_to_string(&stty).expect("no output of stty");
        assert!(
            settings.contains(" icanon") && settings.contains(" echo "),
            "{settings}"
        );
    }
    terminal.top("", "--max-cpu 100");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(terminal.pid(), libc::SIGTSTP) }, 0);
    let screen = terminal.wait("the shell", |screen| screen.contains("code="));
    assert!(!screen.contains("F10Quit"), "{screen}");
    terminal.line("clear; fg; echo code=$?");
    terminal.wait("the screen again", |screen| screen.contains("F10Quit"));
    terminal.keys(&["C-z"]);
    terminal.wait("the shell", |screen| screen.contains("code="));
    terminal.line("clear; fg; echo code=$?");
    terminal.wait("the screen again", |screen| screen.contains("F10Quit"));
    terminal.keys(&["C-c"]);
    terminal.wait("the end", |screen| screen.contains("code=0"));
}

#[test]
fn no_color_prints_no_colors() {
    if !can_run() {
        return;
    }
    for (before, are_any) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let terminal = Terminal::start(80, 24);
        terminal.top(before, "--max-cpu 100");
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"]);
        let codes = screen.split("\x1b[").skip(1);
        let codes: Vec<_> = codes.filter_map(|code| code.split_once('m')).collect();
        let is_colour = |code: &str| {
            let number: Option<u32> = code.parse().ok();
            number.is_some_and(|number| matches!(number, 30..=38 | 40..=48 | 90..=107))
        };
        let coloured = codes.iter().any(|(code, _)| code.split(';').any(is_colour));
        assert_eq!(coloured, are_any, "{screen:?}");
        // Only ASCII where the terminal supports nothing else.
        terminal.keys(&["q"]);
        terminal.wait("the end", |screen| screen.contains("code=0"));
        let screen = terminal.top("LANG=C", "--max-cpu 100");
        assert!(screen.is_ascii(), "{screen}");
    }
}

#[test]
fn top_reads_from_running_agent() {
    if !can_run() {
        return;
    }
    let agent = Agent::start("");
    let terminal = Terminal::start(100, 30);
    let (puppet, _) = with_duplicate(terminal.directory.path());
    let screen = terminal.top("", &format!("--agent {}", agent.socket().display()));
    assert!(screen.starts_with("fdwatch  "), "{screen}");
    terminal.wait("the finding", |screen| screen.contains("held-twice.log"));
    terminal.wait("the source of the events", |screen| {
        screen.contains(&format!("agent {}", agent.process.pid()))
    });
    open(&terminal, &puppet);
    terminal.keys(&["F10"]);
    terminal.wait("the end", |screen| screen.contains("code=0"));
    // If the agent exits while it is queried, that is shown.
    terminal.top("", &format!("--agent {}", agent.socket().display()));
    agent.end();
    terminal.wait("the error", |screen| {
        screen.contains("the agent") && screen.contains("code=2")
    });
}

#[test]
fn missing_terminal_is_an_error() {
    let finished = run(fdwatch(["top"]));
    assert!(
        finished.error().contains("not a terminal"),
        "{}",
        finished.stderr
    );
    if !program(TMUX) {
        return;
    }
    let terminal = Terminal::start(80, 24);
    let binary = env!("CARGO_BIN_EXE_fdwatch");
    terminal.line(&format!("clear; TERM=dumb {binary} top; echo code=$?"));
    let screen = terminal.wait("the error", |screen| screen.contains("code=2"));
    assert!(screen.contains("TERM is dumb"), "{screen}");
}

#[test]
fn watch_shows_progress_on_terminal_only() {
    if !can_run() {
        return;
    }
    let terminal = Terminal::start(100, 24);
    let binary = env!("CARGO_BIN_EXE_fdwatch");
    let pid = std::process::id();
    terminal.line(&format!(
        "clear; {binary} --pid {pid} --comm no-such-name; echo code=$?"
    ));
    terminal.wait("progress", |screen| screen.contains("no findings"));
    terminal.keys(&["C-c"]);
    let screen = terminal.wait("the end", |screen| screen.contains("code=0"));
    assert!(!screen.contains("no findings"), "{screen}");
    let (output, errors) = ("output", "errors");
    let file = |name: &str| terminal.directory.path().join(name);
    terminal.line(&format!(
        "clear; {binary} --pid {pid} --comm no-such-name --duration 3s >{} 2>{}; echo again=$?",
        file(output).display(),
        file(errors).display()
    ));
    terminal.wait("the end", |screen| screen.contains("again=0"));
    assert_eq!(fs::read(file(output)).expect("missing"), b"");
    let message = fs::read_to_string(file(errors)).expect("missing");
    // The start line and the summary, whose further lines report losses.
    let mut lines = message.lines();
    for part in ["watching ", " events, "] {
        assert!(
            lines.next().is_some_and(|line| line.contains(part)),
            "{message}"
        );
    }
    assert!(lines.all(|line| line.ends_with(" dropped")), "{message}");
    assert!(!message.contains(['\r', '\x1b']), "{message:?}");
}
