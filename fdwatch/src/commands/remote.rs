//! Runs commands through this host's agent, if there is one, instead of loading the BPF programs a second
//! time. Responses are printed unmodified: the agent formats them as text or JSON.

use std::{io::Write as _, os::unix::net::UnixStream, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use fdwatch_events::wire::Version;
use fdwatch_http::AgentClient;
use fdwatch_options::add_parameter;
use tokio::runtime::{self, Runtime};

use super::output::WritingOutput as _;
use crate::cli::{AgentSocket, Explain, Fds, Output, Watch};
use fdwatch_core::ring::default_ring_bytes;
use fdwatch_options::{Detail, Filters, MaxCpu, Target};
use fdwatch_render::{Format, text::large_count};
use fdwatch_tracker::{SignalOrTimeout, StopCondition as _, message::warn};

/// Connection to an agent that is listening.
pub(super) struct Remote {
    client: AgentClient,
    runtime: Runtime,
    /// Response to `/v1/version`, requested when the connection was made.
    version: Version,
}

impl Remote {
    /// Connects to the agent; returns `None` if none is listening on the default socket, or with `--agent
    /// none`.
    ///
    /// # Errors
    ///
    /// If the user named a socket and no agent responds on it.
    pub(super) fn find(agent: &AgentSocket) -> Result<Option<Self>> {
        let Some(socket) = agent.socket() else {
            return Ok(None);
        };
        match Self::at(socket) {
            Ok(remote) => Ok(Some(remote)),
            Err(error) if agent.is_named() => {
                Err(error.context(format!("no agent is listening at {}", socket.display())))
            }
            Err(_) => Ok(None),
        }
    }

    fn at(socket: &Path) -> Result<Self> {
        // Checked first because it is cheap: most hosts have no agent.
        drop(UnixStream::connect(socket)?);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let client = AgentClient::new(socket)?;
        let version = runtime.block_on(client.object("/v1/version"))?;
        Ok(Self {
            client,
            runtime,
            version,
        })
    }

    /// Returns whether the agent follows all file types and severities that the filters select. Warns if it
    /// does not.
    pub(super) fn follows(&self, filters: &Filters) -> bool {
        let follows = &self.version.follows;
        let min_severity = filters.min_severity();
        let is_enough = (follows.all_types || !filters.all_types())
            && follows
                .severity
                .known()
                .is_some_and(|followed| followed <= min_severity);
        if !is_enough {
            warn(&format!(
                "the agent follows only findings of severity {} and above{}; loading BPF programs instead",
                follows.severity,
                if follows.all_types {
                    ""
                } else {
                    " in regular files"
                }
            ));
        }
        is_enough
    }

    /// Returns the client, the runtime that it must be used in, and the agent's PID.
    pub(super) fn into_parts(self) -> (AgentClient, Runtime, u32) {
        (self.client, self.runtime, self.version.pid)
    }

    fn announce(&self, action: &str) {
        warn(&format!(
            "{action} through the agent (PID {}); press Ctrl-C to stop",
            self.version.pid
        ));
    }

    /// Requests a path and prints the body of the response.
    fn print(&self, path: &str) -> Result<()> {
        self.runtime.block_on(async {
            let body = self.client.body(path).await?;
            write(&body)
        })
    }

    /// Runs `watch`. Returns `None` if an option differs from the agent's own settings, so that `watch` must
    /// load the programs itself.
    pub(super) fn watch(&self, watch: &Watch) -> Result<Option<ExitCode>> {
        if watch.ring_size.0 != default_ring_bytes()
            || watch.budget.max_cpu != MaxCpu(1.0)
            || watch.detail != Detail::Suspects
            || !self.follows(&watch.filters)
        {
            return Ok(None);
        }
        let Version {
            descriptors,
            processes,
            ..
        } = self.version;
        self.announce(&format!(
            "watching {} of {}",
            large_count(descriptors as u64, "descriptor"),
            large_count(processes as u64, "process")
        ));
        let format = match watch.output.format() {
            Format::Json => "lines",
            Format::Text => "text",
        };
        let query = watch.filters.query();
        self.runtime.block_on(async {
            let mut stop = SignalOrTimeout::after(watch.duration);
            stop.begin()?;
            let path = format!("/v1/events?current=true&format={format}{query}");
            let mut response = self.client.response(&path).await?;
            loop {
                tokio::select! {
                    ended = stop.wait() => {
                        ended?;
                        break;
                    }
                    chunk = response.chunk() => match chunk {
                        Ok(Some(chunk)) => write(&chunk)?,
                        Ok(None) | Err(_) => bail!("the agent has exited"),
                    }
                }
            }
            drop(response);
            let path = format!("/v1/summary?format={format}");
            let summary = self.client.body(&path).await?;
            match watch.output.format() {
                Format::Json => write(&summary),
                Format::Text => {
                    warn(&format!(
                        "totals since the agent started: {}",
                        String::from_utf8_lossy(&summary).trim_end()
                    ));
                    Ok(())
                }
            }
        })?;
        Ok(Some(ExitCode::SUCCESS))
    }

    /// Runs `fds`.
    pub(super) fn fds(&self, fds: &Fds) -> Result<ExitCode> {
        self.print(&format!(
            "/v1/processes/{}/fds?format={}",
            fds.pid,
            api_format(&fds.output)
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Runs `explain`.
    pub(super) fn explain(&self, explain: &Explain) -> Result<ExitCode> {
        let mut path = format!(
            "/v1/explain/{}?format={}",
            explain.pid,
            api_format(&explain.output)
        );
        if let Some(target) = &explain.target {
            let target = match target {
                Target::Fd(fd) => fd.to_string(),
                Target::Path(path) => path.clone(),
            };
            add_parameter(&mut path, "target", &target);
        }
        if explain.duration.is_some() {
            // A first request: the agent collects detail of the process from then on.
            self.runtime.block_on(async {
                let first = format!("/v1/explain/{}", explain.pid);
                drop(self.client.response(&first).await?);
                let mut stop = SignalOrTimeout::after(explain.duration);
                stop.begin()?;
                self.announce("following");
                stop.wait().await
            })?;
        }
        self.print(&path)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the value of the API's `format` parameter for a single response.
const fn api_format(output: &Output) -> &'static str {
    match output.format() {
        Format::Json => "json",
        Format::Text => "text",
    }
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut output = anstream::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .writing_output()?;
    Ok(())
}
