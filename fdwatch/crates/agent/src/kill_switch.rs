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

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sets the switch, and waits until the agent does not answer any more.
///
/// # Errors
///
/// If the switch cannot be set, or the agent goes on.
pub fn stop(config: &Config) -> Result<ExitCode> {
    let mut file = StopFile::new(config.watch.stop_file.clone());
    let path = file.path().display().to_string();
    file.make()
        .with_context(|| format!("cannot make {path}: this needs root"))?;
    if !file.is_there() {
        bail!("{path} does not belong to root, and the agent passes it over: this needs root");
    }
    let socket = config.api.socket.as_deref();
    let answers = || socket.is_some_and(|socket| UnixStream::connect(socket).is_ok());
    let began = Instant::now();
    let was_there = answers();
    while answers() {
        if began.elapsed() > PATIENCE {
            bail!("{path} is there, but the agent answers still");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let outcome = if was_there {
        format!(
            "the agent has ended after {:.1} s",
            began.elapsed().as_secs_f64()
        )
    } else {
        "no agent answered".to_owned()
    };
    warn(&format!(
        "{outcome}; it does not begin again until {path} is removed"
    ));
    Ok(ExitCode::SUCCESS)
}
