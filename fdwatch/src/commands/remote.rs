//! Asks the agent of this host, where there is one, instead of loading programs once more. What the
//! agent answers is shown as it is, and not understood here but for its type.

use std::{io::Write as _, os::unix::net::UnixStream, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use fdwatch_events::wire::Version;
use fdwatch_http::AgentClient;
use fdwatch_options::add_parameter;
use tokio::runtime::{self, Runtime};

use super::output::WritingOutput as _;
use crate::cli::{Ask, Explain, Fds, Output, Watch};
use fdwatch_core::ring::default_ring_bytes;
use fdwatch_options::{Detail, Filters, MaxCpu, Target};
use fdwatch_render::{Format, text::large_count};
use fdwatch_tracker::{SignalOrTimeout, StopCondition as _, message::warn};

/// The agent.
pub(super) struct Remote {
    client: AgentClient,
    runtime: Runtime,
    /// What it says of itself.
    about: Version,
}

impl Remote {
    /// The agent that is to be asked, if one runs.
    ///
    /// # Errors
    ///
    /// If one was named that does not answer.
    pub(super) fn find(ask: &Ask) -> Result<Option<Self>> {
        let Some(socket) = ask.socket() else {
            return Ok(None);
        };
        match Self::at(socket) {
            Ok(remote) => Ok(Some(remote)),
            Err(error) if ask.is_named() => {
                Err(error.context(format!("no agent answers at {}", socket.display())))
            }
            Err(_) => Ok(None),
        }
    }

    fn at(socket: &Path) -> Result<Self> {
        // Before all else: mostly there is none.
        drop(UnixStream::connect(socket)?);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let client = AgentClient::new(socket)?;
        let about = runtime.block_on(client.object("/v1/version"))?;
        Ok(Self {
            client,
            runtime,
            about,
        })
    }

    /// Whether it follows what the filters ask for. Why not is said.
    pub(super) fn follows(&self, filters: &Filters) -> bool {
        let follows = &self.about.follows;
        let least = filters.min_severity();
        let is_enough = (follows.all_types || !filters.all_types())
            && follows
                .severity
                .known()
                .is_some_and(|followed| followed <= least);
        if !is_enough {
            warn(&format!(
                "the agent follows less than that ({} and up{}): watching without it",
                follows.severity,
                if follows.all_types {
                    ""
                } else {
                    ", regular files"
                }
            ));
        }
        is_enough
    }

    /// The way to it, the runtime that it is asked in, and its process.
    pub(super) fn into_parts(self) -> (AgentClient, Runtime, u32) {
        (self.client, self.runtime, self.about.pid)
    }

    fn say(&self, what: &str) {
        warn(&format!(
            "{what} through the agent (process {}); Ctrl-C ends",
            self.about.pid
        ));
    }

    /// Shows what it answers.
    fn show(&self, path: &str) -> Result<()> {
        self.runtime.block_on(async {
            let body = self.client.body(path).await?;
            write(&body)
        })
    }

    /// `watch`, if the agent can do what is asked for.
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
        } = self.about;
        self.say(&format!(
            "watching {} of {}",
            large_count(descriptors as u64, "descriptor"),
            large_count(processes as u64, "process")
        ));
        let shape = match watch.output.format() {
            Format::Json => "lines",
            Format::Text => "text",
        };
        let query = watch.filters.query();
        self.runtime.block_on(async {
            let mut stop = SignalOrTimeout::after(watch.duration);
            stop.begin()?;
            let path = format!("/v1/events?current=true&format={shape}{query}");
            let mut response = self.client.response(&path).await?;
            loop {
                tokio::select! {
                    ended = stop.wait() => {
                        ended?;
                        break;
                    }
                    chunk = response.chunk() => match chunk {
                        Ok(Some(chunk)) => write(&chunk)?,
                        Ok(None) | Err(_) => bail!("the agent has ended"),
                    }
                }
            }
            drop(response);
            let path = format!("/v1/summary?format={shape}");
            let summary = self.client.body(&path).await?;
            match watch.output.format() {
                Format::Json => write(&summary),
                Format::Text => {
                    warn(&format!(
                        "of the agent, since it began: {}",
                        String::from_utf8_lossy(&summary).trim_end()
                    ));
                    Ok(())
                }
            }
        })?;
        Ok(Some(ExitCode::SUCCESS))
    }

    /// `fds`
    pub(super) fn fds(&self, fds: &Fds) -> Result<ExitCode> {
        self.show(&format!(
            "/v1/processes/{}/fds?format={}",
            fds.pid,
            shape(&fds.output)
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// `explain`
    pub(super) fn explain(&self, explain: &Explain) -> Result<ExitCode> {
        let mut path = format!(
            "/v1/explain/{}?format={}",
            explain.pid,
            shape(&explain.output)
        );
        if let Some(target) = &explain.target {
            let target = match target {
                Target::Fd(fd) => fd.to_string(),
                Target::Path(path) => path.clone(),
            };
            add_parameter(&mut path, "target", &target);
        }
        if explain.duration.is_some() {
            // Who is asked about is followed in detail from then on.
            self.runtime.block_on(async {
                let asked = format!("/v1/explain/{}", explain.pid);
                drop(self.client.response(&asked).await?);
                let mut stop = SignalOrTimeout::after(explain.duration);
                stop.begin()?;
                self.say("following");
                stop.wait().await
            })?;
        }
        self.show(&path)?;
        Ok(ExitCode::SUCCESS)
    }
}

const fn shape(output: &Output) -> &'static str {
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
