//! Brings a server's tables to what is needed here. What the tables are is not known here.

use anyhow::{Context as _, Result, ensure};

use super::{
    schema::{self, Engine, Kept, VERSION, Wanted},
    store::{Client, StoreError},
};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The server's version.
    pub engine: Engine,
    /// The schema's version before; 0 if there was none.
    pub from: u32,
    /// Days that were deleted, where the server does not do it by itself.
    pub deleted: usize,
}

/// What the server is.
///
/// # Errors
///
/// If it cannot be asked, or is too old.
pub async fn engine(client: &Client) -> Result<Engine> {
    let version = client.run("SELECT version()", &[]).await?;
    Engine::of(version.trim().trim_matches('"'))
}

/// Makes or upgrades the tables. All of it may be done again, also where it was cut off before.
///
/// # Errors
///
/// If the server refuses, or has a newer schema.
pub async fn init(client: &Client, wanted: &Wanted) -> Result<Done> {
    let engine = engine(client).await?;
    let from = version(client, wanted).await?;
    ensure!(
        from <= VERSION,
        "the server's tables are of version {from}, and this fdwatch knows those up to {VERSION}: \
         use a newer fdwatch"
    );
    if from < VERSION {
        for statement in schema::statements(wanted, engine, from)? {
            let done = client.run(&statement, engine.settings()).await;
            if let Err(StoreError::Refused {
                code: Some(code), ..
            }) = &done
                && statement.contains(" ADD COLUMN ")
                && schema::IS_THERE.contains(code)
            {
                continue;
            }
            done.with_context(|| format!("cannot run: {statement}"))?;
        }
    }
    let deleted = if engine.has_ttl() {
        0
    } else {
        delete_old(client, wanted).await?
    };
    Ok(Done {
        engine,
        from,
        deleted,
    })
}

/// The version of the tables that are there.
async fn version(client: &Client, wanted: &Wanted) -> Result<u32> {
    let database = schema::identifier(&wanted.database)?;
    let there = client
        .run(&format!("EXISTS TABLE {database}.schema_version"), &[])
        .await;
    // Of a database that is not there, some versions say no, and some that it is not.
    if there.as_ref().is_ok_and(|it| it.trim() != "1") {
        return Ok(0);
    }
    match there {
        Err(StoreError::Refused { code: Some(81), .. }) => return Ok(0),
        other => other?,
    };
    let text = client
        .run(
            &format!("SELECT max(version) FROM {database}.schema_version FORMAT TabSeparated"),
            &[],
        )
        .await?;
    text.trim()
        .parse()
        .with_context(|| format!("the server's tables have a version that is none: {text:?}"))
}

/// Deletes the days, or months, that are too old as a whole.
async fn delete_old(client: &Client, wanted: &Wanted) -> Result<usize> {
    let database = schema::identifier(&wanted.database)?;
    // Of each shard, what one of its replicas has.
    let cluster = wanted
        .cluster
        .as_deref()
        .map(schema::identifier)
        .transpose()?;
    let (parts, suffix) = match cluster {
        Some(name) => (format!("cluster('{name}', system.parts)"), "_local"),
        None => ("system.parts".to_owned(), ""),
    };
    let on_cluster = schema::on_cluster(cluster);
    let mut deleted = 0;
    for Kept {
        name: table,
        days,
        part,
    } in schema::kept(wanted)
    {
        let local = format!("{table}{suffix}");
        // By their names: 18.16 knows no dates of parts whose time is no Date, and has them all be of
        // 1970. Part of a month may be kept a month longer.
        let old = client
            .run(
                &format!(
                    "SELECT DISTINCT partition FROM {parts} WHERE database = '{database}' \
                     AND table = '{local}' AND active \
                     AND toUInt32OrZero(partition) < {part}(today() - {days}) \
                     FORMAT TabSeparated"
                ),
                &[],
            )
            .await?;
        for partition in old.lines() {
            ensure!(
                matches!(partition.len(), 6 | 8)
                    && partition.bytes().all(|byte| byte.is_ascii_digit()),
                "{database}.{local} has a partition that is not of fdwatch: {partition:?}"
            );
            client
                .run(
                    &format!(
                        "ALTER TABLE {database}.{local}{on_cluster} DROP PARTITION {partition}"
                    ),
                    &[],
                )
                .await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
