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
    cli::{Fleet, FleetCommand, FleetInit, FleetQuestion, FleetServer, Since},
    error::HELP,
    report::fleet::{Answer, Show},
};
use fdwatch_core::{diagnose::Severity, plural::counted};
use fdwatch_fleet::{
    agents, grants,
    questions::{Asked, By, Found, Source},
    schema::{self, Engine, Wanted},
    setup,
    store::{Address, Client},
};
use fdwatch_host::proc;
use fdwatch_render::note;

/// ClickHouse that `init --print` without a server assumes.
const CURRENT: Engine = Engine { version: (26, 3) };

/// Agents that are queried at once, at most.
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
            question,
        } => {
            let asked = window(*since, now, *severity);
            let source = source(question, now).await?;
            let all = source.duplicates(&asked, *by, question.limit).await?;
            Ok(show(question, now).answer(Answer::Duplicates(&all, *by)))
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
            Ok(show(question, now).answer(Answer::Duplicates(&all, By::Signature)))
        }
        FleetCommand::Show {
            signature,
            since,
            severity,
            question,
        } => {
            ensure!(!signature.is_empty(), "the signature is empty");
            let asked = window(*since, now, *severity).of(signature);
            match source(question, now).await?.show(&asked).await? {
                Found::One(shown) => Ok(show(question, now).answer(Answer::Signature(&shown))),
                Found::Several(names) => bail!(
                    "ambiguous signature: {signature}{HELP}give more of one of these: {}",
                    fdwatch_render::escaped(names.join(", ").as_bytes())
                ),
                Found::None => bail!(
                    "signature not found: {signature}{HELP}list signatures with `fdwatch fleet \
                     duplicates`, or start earlier with --since"
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
            Ok(show(question, now).answer(Answer::Hosts(&all, silent)))
        }
        FleetCommand::Shared { since, question } => {
            let asked = window(*since, now, Severity::Info);
            let source = source_of(question, agents::What::Files, now).await?;
            let all = source.shared(&asked).await?;
            let hosts = source.hosts(&asked).await?;
            for host in hosts.iter().filter(|host| host.files_left_out > 0) {
                note(&format!(
                    "{} has too many network files open: {} skipped",
                    fdwatch_render::escaped(host.host.as_bytes()),
                    counted(host.files_left_out, "descriptor")
                ));
            }
            Ok(show(question, now).answer(Answer::Shared(&all)))
        }
    }
}

fn window(since: Since, now: u32, severity: Severity) -> Asked {
    Asked::since(since.seconds(now), now, level(severity))
}

const fn level(severity: Severity) -> u8 {
    severity as u8 + 1
}

const fn show(question: &FleetQuestion, now: u32) -> Show {
    Show {
        format: question.output.format(),
        now,
        limit: question.limit,
    }
}

/// Connects to the server. `alternative` is appended to the help if none was given.
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

async fn source(question: &FleetQuestion, now: u32) -> Result<Source> {
    source_of(question, agents::What::Findings, now).await
}

async fn source_of(question: &FleetQuestion, what: agents::What, now: u32) -> Result<Source> {
    let Some(list) = &question.agents else {
        return Ok(Source::Server(client(
            &question.server,
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
        "too many agents: {}, at most {MAX_AGENTS} can be queried at once{HELP}write findings to a \
         server, and query that",
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
        note(&format!(
            "{}: {error}",
            fdwatch_render::escaped(agent.as_bytes())
        ));
    }
    ensure!(rows.errors.len() < names.len(), "no agent answered");
    Ok(Source::Agents(rows))
}

/// Sets up the tables, or prints the statements.
async fn init(arguments: &FleetInit) -> Result<String> {
    let wanted = Wanted {
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
            "this version of ClickHouse does not delete old rows by itself: run this command once a \
             day. Deleted {}.\n",
            counted(done.deleted, "partition")
        );
    }
    Ok(text)
}
