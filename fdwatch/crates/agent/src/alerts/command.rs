//! A program that is told: the JSON on its standard input, the most important of it in its environment.

use std::{env, io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::{delivery::Sent, notice::bounded, state::Alert, webhook::json};

/// What of its standard error is read at most: bytes. Then that is closed.
const MAX_READ: usize = 1 << 20;

/// And what of that is shown, in characters.
const MAX_SHOWN: usize = 400;

/// What a program gets to see of the agent's environment.
const PASSED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Starts the program, and waits for its end for so long.
pub(super) async fn run(arguments: &[String], alert: &Alert, host: &str, limit: Duration) -> Sent {
    let Some((program, arguments)) = arguments.split_first() else {
        return Sent::refused("there is no program".to_owned());
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
    let mut said = Vec::new();
    let Ok(ended) = timeout(limit, follow(&mut child, input, &mut said)).await else {
        drop(group);
        let _ = child.wait().await;
        return Sent::failed(format!(
            "it has not ended within {} s, and was killed{}",
            limit.as_secs(),
            words(&said)
        ));
    };
    group.spare();
    match ended {
        Ok(status) if status.success() => Sent::delivered(),
        Ok(status) => Sent::failed(format!("it ended with {status}{}", words(&said))),
        Err(error) => Sent::failed(format!("cannot wait for its end: {error}")),
    }
}

/// Hands it its input, reads what it has to say, and waits for its end: for all at once.
async fn follow(
    child: &mut Child,
    input: String,
    said: &mut Vec<u8>,
) -> io::Result<std::process::ExitStatus> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // Not all programs read it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(write, listen(stderr, said));
    };
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        ended = child.wait() => return ended,
        () = &mut talk => {}
    }
    child.wait().await
}

/// Reads to the end, or until that is too much: then there is no reader any more.
async fn listen(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
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
                let room = (4 * MAX_SHOWN).saturating_sub(said.len());
                said.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
    }
}

fn words(said: &[u8]) -> String {
    if said.is_empty() {
        return String::new();
    }
    format!("; it said: {}", bounded(said.trim_ascii(), MAX_SHOWN))
}

/// A process group that is killed if it is not spared, also where the agent ends meanwhile.
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
            // SAFETY: the call takes numbers only. The leader was not waited for, so that the number
            // is the group's.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}
