//! `fdwatch fleet`: queries findings across hosts.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::output::WritingOutput as _;
use crate::{
    cli::{Fleet, FleetCommand, FleetInit, FleetQueryOptions, FleetServer, Since},
    error::HELP,
};
use fdwatch_core::{diagnose::Severity, plural::counted};
use fdwatch_events::wire::{Body, FleetMore, Object};
use fdwatch_fleet::{
    agents, grants,
    lines::{duplicates_line, host_line, shared_line, signature_line},
    schema::{self, Engine, SchemaOptions},
    setup,
    source::{Duplicates, GroupBy, Lines, MAX_ROWS, Query, SignatureMatch, Source},
    store::{Address, Client},
};
use fdwatch_host::proc;
use fdwatch_render::{Format, fleet, json_line};
use fdwatch_tracker::message::warn;
use serde::Serialize;

/// Version of ClickHouse that `init --print` assumes if no server is given.
const CURRENT: Engine = Engine { version: (26, 3) };

/// Maximum number of agents per query.
const MAX_AGENTS: usize = 1000;

pub(super) fn run(arguments: &Fleet) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let text = runtime.block_on(answer(&arguments.command))?;
    let mut output = io::BufWriter::new(anstream::stdout());
    output.write_all(text.as_bytes()).writing_output()?;
    output.flush().writing_output()?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(command: &FleetCommand) -> Result<String> {
    let now = u32::try_from(proc::wall_time() / 1_000_000_000).unwrap_or(u32::MAX);
    match command {
        FleetCommand::Init(init) => self::init(init).await,
        FleetCommand::Duplicates {
            since,
            by,
            severity,
            options,
        } => {
            let query = window(*since, now, *severity);
            let source = source(options, now).await?;
            let all = source.duplicates(&query, *by, options.limit).await?;
            show_duplicates(options, all, now)
        }
        FleetCommand::New {
            since,
            before,
            severity,
            options,
        } => {
            let before = u32::try_from(before.as_secs()).unwrap_or(u32::MAX);
            let since = since.seconds(now);
            let query = Query::new_since(since, before, now, level(*severity));
            let source = source(options, now).await?;
            let all = source
                .duplicates(&query, GroupBy::Signature, options.limit)
                .await?;
            show_duplicates(options, all, now)
        }
        FleetCommand::Show {
            signature,
            since,
            severity,
            options,
        } => {
            ensure!(!signature.is_empty(), "the signature is empty");
            let query = window(*since, now, *severity).of(signature);
            match source(options, now).await?.show(&query).await? {
                SignatureMatch::One(shown) => {
                    let line = signature_line(*shown);
                    Ok(match options.output.format() {
                        Format::Text => fleet::signature(&line, now, options.limit),
                        Format::Json => json_line(&Object::new(line))?,
                    })
                }
                SignatureMatch::Several(names) => bail!(
                    "ambiguous signature: {signature}{HELP}give a longer prefix of one of these: {}",
                    fdwatch_render::escaped(names.join(", ").as_bytes())
                ),
                SignatureMatch::None => bail!(
                    "signature not found: {signature}{HELP}list signatures with `fdwatch fleet \
                     duplicates`, or start earlier with --since"
                ),
            }
        }
        FleetCommand::Hosts {
            since,
            silent_after,
            options,
        } => {
            let query = window(*since, now, Severity::Info);
            let all = source(options, now).await?.hosts(&query).await?;
            let silent = u32::try_from(silent_after.as_secs()).unwrap_or(u32::MAX);
            let count = all.len();
            let all = all.into_iter().map(|host| host_line(host, now, silent));
            show(options, all, count, |all| fleet::hosts(all, now))
        }
        FleetCommand::Shared { since, options } => {
            let query = window(*since, now, Severity::Info);
            let source = source_of(options, agents::Resource::Files, now).await?;
            let all = source.shared(&query).await?;
            let hosts = source.hosts(&query).await?;
            for host in hosts.iter().filter(|host| host.files_left_out > 0) {
                warn(&format!(
                    "{} has too many files of network file systems open: {} skipped",
                    fdwatch_render::escaped(host.host.as_bytes()),
                    counted(host.files_left_out, "descriptor")
                ));
            }
            let (count, all) = (all.len(), all.into_iter().map(shared_line));
            show(options, all, count, |all| fleet::shared(all, now))
        }
    }
}

fn window(since: Since, now: u32, severity: Severity) -> Query {
    Query::since(since.seconds(now), now, level(severity))
}

const fn level(severity: Severity) -> u8 {
    severity as u8 + 1
}

fn show_duplicates(
    options: &FleetQueryOptions,
    all: Lines<Duplicates>,
    now: u32,
) -> Result<String> {
    let lines = all.shown.into_iter().map(duplicates_line);
    show(options, lines, all.count, |all| fleet::duplicates(all, now))
}

/// Formats the first `--limit` of `count` lines, and the number of lines that were omitted.
fn show<T: Body + Serialize>(
    options: &FleetQueryOptions,
    lines: impl Iterator<Item = T>,
    count: usize,
    text: impl FnOnce(&[T]) -> String,
) -> Result<String> {
    let lines: Vec<T> = lines.take(options.limit).collect();
    let more = (count > options.limit).then(|| FleetMore {
        more: count - options.limit,
        exact: count <= MAX_ROWS,
    });
    match options.output.format() {
        Format::Text => Ok(text(&lines) + &more.map_or_else(String::new, |it| fleet::more(&it))),
        Format::Json => {
            let lines = lines.into_iter().map(|line| json_line(&Object::new(line)));
            let more = more.map(|more| json_line(&Object::new(more)));
            Ok(lines.chain(more).collect::<io::Result<String>>()?)
        }
    }
}

/// Creates a client of the server. `alternative` is appended to the help if no server was given.
fn client(server: &FleetServer, alternative: &str) -> Result<Client> {
    let Some(url) = &server.url else {
        bail!("no server given{HELP}use --url or FDWATCH_FLEET_URL{alternative}");
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

async fn source(options: &FleetQueryOptions, now: u32) -> Result<Source> {
    source_of(options, agents::Resource::Findings, now).await
}

async fn source_of(
    options: &FleetQueryOptions,
    resource: agents::Resource,
    now: u32,
) -> Result<Source> {
    let Some(list) = &options.agents else {
        return Ok(Source::Server(client(
            &options.server,
            ", or query agents with --agents",
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
    ensure!(!names.is_empty(), "no agents given");
    ensure!(
        names.len() <= MAX_AGENTS,
        "too many agents: {}, at most {MAX_AGENTS} can be queried directly{HELP}let the agents write to a \
         server, and query the server",
        names.len()
    );
    let token = options.token_file.as_deref().map(read).transpose()?;
    let ca = options.server.ca_file.as_deref();
    let ca = ca
        .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    let access = agents::Access {
        token: token.map(|token| token.trim().to_owned()),
        ca,
    };
    let rows = agents::query(&names, &access, resource, now).await?;
    for (agent, error) in &rows.errors {
        warn(&format!(
            "{}: {error}",
            fdwatch_render::escaped(agent.as_bytes())
        ));
    }
    ensure!(rows.errors.len() < names.len(), "no agent answered");
    Ok(Source::Agents(rows))
}

/// Creates or upgrades the tables, or prints the statements.
async fn init(arguments: &FleetInit) -> Result<String> {
    let wanted = SchemaOptions {
        database: arguments.server.database.clone(),
        cluster: arguments.cluster.clone(),
        days: arguments.keep,
        rollup_days: arguments.keep_hourly,
    };
    if arguments.print || arguments.print_grants {
        let engine = match &arguments.server.url {
            Some(_) => setup::engine(&client(&arguments.server, "")?).await?,
            None => CURRENT,
        };
        if arguments.print_grants {
            return grants::grants(&wanted, engine);
        }
        let statements = schema::statements(&wanted, engine, 0)?;
        return Ok(statements.join(";\n") + ";\n");
    }
    let done = setup::init(&client(&arguments.server, "")?, &wanted).await?;
    let (major, minor) = done.engine.version;
    let what = match done.from {
        0 => format!("created tables (version {})", schema::VERSION),
        schema::VERSION => format!("tables are up to date (version {})", schema::VERSION),
        from => format!("upgraded tables from version {from} to {}", schema::VERSION),
    };
    let mut text = format!(
        "{what} in database {} of ClickHouse {major}.{minor}\n",
        arguments.server.database
    );
    if !done.engine.has_ttl() {
        text += &format!(
            "this version of ClickHouse does not delete expired rows: run this command once a day. \
             Deleted {}.\n",
            counted(done.deleted, "partition")
        );
    }
    Ok(text)
}
