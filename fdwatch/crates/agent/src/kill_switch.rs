//! `fdwatch agent --stop`: the kill switch.

use std::{
    os::unix::net::UnixStream,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{config::Config, stop::StopFile};
use fdwatch_tracker::message::warn;

/// Time in which the agent must stop.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sets the kill switch, and waits until the agent no longer accepts connections.
///
/// # Errors
///
/// If the switch cannot be set, or the agent keeps running.
pub fn stop(config: &Config) -> Result<ExitCode> {
    let mut file = StopFile::new(config.watch.stop_file.clone());
    let path = file.path().display().to_string();
    file.make()
        .with_context(|| format!("cannot create {path}: run as root"))?;
    if !file.is_there() {
        bail!("{path} is not owned by root, so the agent ignores it: run as root");
    }
    let socket = config.api.socket.as_deref();
    let is_running = || socket.is_some_and(|socket| UnixStream::connect(socket).is_ok());
    let began = Instant::now();
    let was_running = is_running();
    while is_running() {
        if began.elapsed() > TIMEOUT {
            bail!("set {path}, but the agent is still running");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let outcome = if was_running {
        format!(
            "the agent stopped after {:.1} s",
            began.elapsed().as_secs_f64()
        )
    } else {
        "no agent is running".to_owned()
    };
    warn(&format!(
        "{outcome}; remove {path} to allow it to start again"
    ));
    Ok(ExitCode::SUCCESS)
}
