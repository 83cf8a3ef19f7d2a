//! Alerts to a program: the JSON object on its standard input, the main fields in its environment.

use std::{env, io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::{delivery::Sent, notice::bounded, state::Alert, webhook::json};

/// Limit of bytes read from its standard error, which is then closed.
const MAX_READ: usize = 1 << 20;

/// Limit of characters of its standard error that are logged.
const MAX_SHOWN: usize = 400;

/// Variables of the agent's environment that a program receives.
const PASSED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Runs the program, for at most `limit`.
pub(super) async fn run(arguments: &[String], alert: &Alert, host: &str, limit: Duration) -> Sent {
    let Some((program, arguments)) = arguments.split_first() else {
        return Sent::refused("the command is empty".to_owned());
    };
    let input = match json(alert, host) {
        Ok(json) => json,
        Err(error) => return Sent::refused(error.to_string()),
    };
    let notice = &alert.notice;
    let passed = PASSED
        .iter()
        .filter_map(|name| Some((name, env::var_os(name)?)));
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(passed)
        .env("FDWATCH_STATUS", alert.status.name())
        .env("FDWATCH_KEY", notice.key.to_string())
        .env("FDWATCH_KIND", &notice.kind)
        .env("FDWATCH_SEVERITY", notice.severity.name())
        .env("FDWATCH_CAUSE", &notice.cause)
        .env("FDWATCH_SUMMARY", &notice.summary)
        .env("FDWATCH_ADVICE", &notice.advice)
        .env("FDWATCH_HOST", host)
        .env("FDWATCH_PID", notice.pid.to_string())
        .env("FDWATCH_COMM", &notice.comm)
        .env("FDWATCH_UNIT", notice.unit.as_deref().unwrap_or_default())
        .env("FDWATCH_PATH", notice.path.as_deref().unwrap_or_default())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Sent::failed(format!("cannot start {program}: {error}")),
    };
    let group = Group::of(&child);
    let mut stderr_text = Vec::new();
    let Ok(ended) = timeout(limit, follow(&mut child, input, &mut stderr_text)).await else {
        drop(group);
        let _ = child.wait().await;
        return Sent::unanswered(format!(
            "killed after {} s{}",
            limit.as_secs(),
            quoted(&stderr_text)
        ));
    };
    group.spare();
    match ended {
        Ok(status) if status.success() => Sent::delivered(),
        Ok(status) => Sent::failed(format!("failed with {status}{}", quoted(&stderr_text))),
        Err(error) => Sent::failed(format!("cannot wait for the program: {error}")),
    }
}

/// Writes its input and reads its standard error while it runs, and waits for its end.
async fn follow(
    child: &mut Child,
    input: String,
    stderr_text: &mut Vec<u8>,
) -> io::Result<std::process::ExitStatus> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let io = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // Fails if the program does not read it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(write, read_stderr(stderr, stderr_text));
    };
    let mut io = std::pin::pin!(io);
    tokio::select! {
        ended = child.wait() => return ended,
        () = &mut io => {}
    }
    child.wait().await
}

/// Reads to the end, or to `MAX_READ`.
async fn read_stderr(stderr: Option<ChildStderr>, stderr_text: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else {
        return;
    };
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read < MAX_READ {
        match stderr.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                read += count;
                let room = (4 * MAX_SHOWN).saturating_sub(stderr_text.len());
                stderr_text.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
}

fn quoted(stderr_text: &[u8]) -> String {
    if stderr_text.is_empty() {
        return String::new();
    }
    format!(
        "; standard error: {}",
        bounded(stderr_text.trim_ascii(), MAX_SHOWN)
    )
}

/// A process group that is killed on drop, unless it is spared.
struct Group(Option<i32>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()))
    }

    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // SAFETY: the call takes numbers only. The leader was not waited for, so the number is still
            // the group's.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}
