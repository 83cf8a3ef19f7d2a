//! `fdwatch fleet`: what is found on many hosts.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use fdwatch_events::wire::{Body, FleetMore, Object};
use serde::Serialize;

use super::WritingOutput as _;
use crate::cli::{Fleet, FleetCommand, FleetInit, FleetQuestion, FleetServer, Since};
use fdwatch_core::{
    diagnose::Severity,
    plural::{counted, either},
};
use fdwatch_fleet::{
    agents, grants,
    questions::{
        Asked, By, Duplicates, Found, Lines, MAX_ROWS, Source, duplicates_line, host_line,
        shared_line, signature_line,
    },
    schema::{self, Engine, Wanted},
    setup,
    store::{Address, Client},
};
use fdwatch_host::proc;
use fdwatch_render::{Format, fleet, json_line};
use fdwatch_tracker::message::warn;

/// What is printed for where no server is asked.
const PRESENT: Engine = Engine { version: (26, 3) };

/// Agents that are asked at once.
const MAX_AGENTS: usize = 1000;

pub(super) fn run(arguments: &Fleet) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let text = runtime.block_on(answer(&arguments.command))?;
    let mut output = io::BufWriter::new(anstream::stdout());
    output.write_all(text.as_bytes()).writing_output()?;
    output.flush().writing_output()?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(command: &FleetCommand) -> Result<String> {
    let now = u32::try_from(proc::wall_time() / 1_000_000_000).unwrap_or(u32::MAX);
    match command {
        FleetCommand::Init(init) => make(init).await,
        FleetCommand::Duplicates {
            since,
            by,
            severity,
            question,
        } => {
            let asked = window(*since, now, *severity);
            let source = source(question, now).await?;
            let all = source.duplicates(&asked, *by, question.limit).await?;
            show_duplicates(question, all, now)
        }
        FleetCommand::New {
            since,
            before,
            severity,
            question,
        } => {
            let before = u32::try_from(before.as_secs()).unwrap_or(u32::MAX);
            let since = since.seconds(now);
            let asked = Asked::new_since(since, before, now, level(*severity));
            let source = source(question, now).await?;
            let all = source
                .duplicates(&asked, By::Signature, question.limit)
                .await?;
            show_duplicates(question, all, now)
        }
        FleetCommand::Show {
            signature,
            since,
            severity,
            question,
        } => {
            ensure!(!signature.is_empty(), "no signature is said");
            let asked = window(*since, now, *severity).of(signature);
            match source(question, now).await?.show(&asked).await? {
                Found::One(shown) => {
                    let line = signature_line(*shown);
                    Ok(match question.output.format() {
                        Format::Text => fleet::signature(&line, now, question.limit),
                        Format::Json => json_line(&Object::new(line))?,
                    })
                }
                Found::Several(names) => bail!(
                    "several signatures begin so: {}",
                    fdwatch_render::escaped(names.join(", ").as_bytes())
                ),
                Found::None => bail!(
                    "there is no such signature in that time: see fdwatch fleet duplicates, or look \
                     further back with --since"
                ),
            }
        }
        FleetCommand::Hosts {
            since,
            silent_after,
            question,
        } => {
            let asked = window(*since, now, Severity::Info);
            let all = source(question, now).await?.hosts(&asked).await?;
            let silent = u32::try_from(silent_after.as_secs()).unwrap_or(u32::MAX);
            let count = all.len();
            let all = all.into_iter().map(|host| host_line(host, now, silent));
            show(question, all, count, |all| fleet::hosts(all, now))
        }
        FleetCommand::Shared { since, question } => {
            let asked = window(*since, now, Severity::Info);
            let source = source_of(question, agents::What::Files, now).await?;
            let all = source.shared(&asked).await?;
            let hosts = source.hosts(&asked).await?;
            for host in hosts.iter().filter(|host| host.files_left_out > 0) {
                warn(&format!(
                    "{} writes too many files of network file systems: {} {} left out",
                    fdwatch_render::escaped(host.host.as_bytes()),
                    counted(host.files_left_out, "descriptor"),
                    either(&host.files_left_out, "is", "are")
                ));
            }
            let (count, all) = (all.len(), all.into_iter().map(shared_line));
            show(question, all, count, |all| fleet::shared(all, now))
        }
    }
}

fn window(since: Since, now: u32, severity: Severity) -> Asked {
    Asked::since(since.seconds(now), now, level(severity))
}

const fn level(severity: Severity) -> u8 {
    severity as u8 + 1
}

fn show_duplicates(question: &FleetQuestion, all: Lines<Duplicates>, now: u32) -> Result<String> {
    let lines = all.shown.into_iter().map(duplicates_line);
    show(question, lines, all.count, |all| {
        fleet::duplicates(all, now)
    })
}

/// Returns the output of an answer: the first lines of `count`, and how many were left out.
fn show<T: Body + Serialize>(
    question: &FleetQuestion,
    lines: impl Iterator<Item = T>,
    count: usize,
    text: impl FnOnce(&[T]) -> String,
) -> Result<String> {
    let lines: Vec<T> = lines.take(question.limit).collect();
    let more = (count > question.limit).then(|| FleetMore {
        more: count - question.limit,
        exact: count <= MAX_ROWS,
    });
    match question.output.format() {
        Format::Text => Ok(text(&lines) + &more.map_or_else(String::new, |it| fleet::more(&it))),
        Format::Json => {
            let lines = lines.into_iter().map(|line| json_line(&Object::new(line)));
            let more = more.map(|more| json_line(&Object::new(more)));
            Ok(lines.chain(more).collect::<io::Result<String>>()?)
        }
    }
}

fn client(server: &FleetServer, or_else: &str) -> Result<Client> {
    let Some(url) = &server.url else {
        bail!("no server is said: give --url, or FDWATCH_FLEET_URL{or_else}");
    };
    let address = Address::read(
        url,
        &server.database,
        server.user.as_deref(),
        server.password_file.as_deref(),
        server.ca_file.as_deref(),
    )?;
    Ok(Client::new(address)?)
}

async fn source(question: &FleetQuestion, now: u32) -> Result<Source> {
    source_of(question, agents::What::Findings, now).await
}

async fn source_of(question: &FleetQuestion, what: agents::What, now: u32) -> Result<Source> {
    let Some(list) = &question.agents else {
        return Ok(Source::Server(client(
            &question.server,
            ", or agents by --agents",
        )?));
    };
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let list = match list.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None => list.replace(',', "\n"),
    };
    let names = list.lines().map(str::trim);
    let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
    let names: Vec<_> = names.map(str::to_owned).collect();
    ensure!(!names.is_empty(), "no agents are said");
    ensure!(
        names.len() <= MAX_AGENTS,
        "these are {} agents, and {MAX_AGENTS} can be asked at once: more need a server",
        names.len()
    );
    let token = question.token_file.as_deref().map(read).transpose()?;
    let ca = question.server.ca_file.as_deref();
    let ca = ca
        .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    let access = agents::Access {
        token: token.map(|token| token.trim().to_owned()),
        ca,
    };
    let rows = agents::ask(&names, &access, what, now).await?;
    for (agent, error) in &rows.errors {
        warn(&format!(
            "{}: {error}",
            fdwatch_render::escaped(agent.as_bytes())
        ));
    }
    ensure!(
        rows.errors.len() < names.len(),
        "none of the agents could be asked"
    );
    Ok(Source::Agents(rows))
}

async fn make(init: &FleetInit) -> Result<String> {
    let wanted = Wanted {
        database: init.server.database.clone(),
        cluster: init.cluster.clone(),
        days: init.keep,
        rollup_days: init.keep_hourly,
    };
    if init.print || init.print_grants {
        let engine = match &init.server.url {
            Some(_) => setup::engine(&client(&init.server, "")?).await?,
            None => PRESENT,
        };
        if init.print_grants {
            return grants::grants(&wanted, engine);
        }
        let statements = schema::statements(&wanted, engine, 0)?;
        return Ok(statements.join(";\n") + ";\n");
    }
    let done = setup::init(&client(&init.server, "")?, &wanted).await?;
    let (major, minor) = done.engine.version;
    let what = match done.from {
        0 => format!("tables of version {} were made", schema::VERSION),
        schema::VERSION => format!("tables are of version {}", schema::VERSION),
        from => format!(
            "tables were brought from version {from} to {}",
            schema::VERSION
        ),
    };
    let mut text = format!(
        "{what} in {} of ClickHouse {major}.{minor}\n",
        init.server.database
    );
    if !done.engine.has_ttl() {
        text += &format!(
            "this ClickHouse does not delete old rows by itself: run this once a day. {} {} \
             deleted now\n",
            counted(done.deleted, "partition"),
            either(&done.deleted, "was", "were")
        );
    }
    Ok(text)
}
