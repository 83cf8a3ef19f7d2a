//! Creates and upgrades the tables of a server.

use anyhow::{Context as _, Result, ensure};

use super::{
    schema::{self, Engine, SchemaOptions, TableInfo, VERSION},
    store::{Client, StoreError},
};

/// Result of [`init`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The server's version.
    pub engine: Engine,
    /// Version of the schema before; 0 if there was none.
    pub from: u32,
    /// Expired partitions that were deleted; 0 if the server has TTL.
    pub deleted: usize,
}

/// Returns the version of the server.
///
/// # Errors
///
/// If the server cannot be queried, or its version is too old.
pub async fn engine(client: &Client) -> Result<Engine> {
    let version = client.run("SELECT version()", &[]).await?;
    Engine::of(version.trim().trim_matches('"'))
}

/// Creates or upgrades the tables. May be repeated, also after an interrupted run.
///
/// # Errors
///
/// If a statement fails, or the server has a newer schema.
pub async fn init(client: &Client, options: &SchemaOptions) -> Result<Done> {
    let engine = engine(client).await?;
    let from = version(client, options).await?;
    ensure!(
        from <= VERSION,
        "unsupported schema version {from} on the server: this fdwatch supports up to {VERSION}\n\
         help: use a newer fdwatch"
    );
    if from < VERSION {
        for statement in schema::statements(options, engine, from)? {
            let done = client.run(&statement, engine.settings()).await;
            if let Err(StoreError::Refused {
                code: Some(code), ..
            }) = &done
                && statement.contains(" ADD COLUMN ")
                && schema::COLUMN_EXISTS.contains(code)
            {
                continue;
            }
            done.with_context(|| format!("statement failed: {statement}"))?;
        }
    }
    let deleted = if engine.has_ttl() {
        0
    } else {
        delete_old(client, options).await?
    };
    Ok(Done {
        engine,
        from,
        deleted,
    })
}

/// Returns the version of the server's schema; 0 if there is none.
async fn version(client: &Client, options: &SchemaOptions) -> Result<u32> {
    let database = schema::identifier(&options.database)?;
    let exists = client
        .run(&format!("EXISTS TABLE {database}.schema_version"), &[])
        .await;
    // If the database does not exist, some versions return 0, others an error.
    if exists.as_ref().is_ok_and(|it| it.trim() != "1") {
        return Ok(0);
    }
    match exists {
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
        .with_context(|| format!("invalid schema version on the server: {text:?}"))
}

/// Deletes the partitions (days or months) that have expired completely, and returns their number.
async fn delete_old(client: &Client, options: &SchemaOptions) -> Result<usize> {
    let database = schema::identifier(&options.database)?;
    // Reads one replica of each shard.
    let cluster = options
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
    for TableInfo {
        name: table,
        days,
        partition,
    } in schema::tables(options)
    {
        let local = format!("{table}{suffix}");
        // Partitions are compared by name: 18.16 reports dates in 1970 if the key is not a Date. A part of
        // a month is retained up to a month longer.
        let old = client
            .run(
                &format!(
                    "SELECT DISTINCT partition FROM {parts} WHERE database = '{database}' \
                     AND table = '{local}' AND active \
                     AND toUInt32OrZero(partition) < {partition}(today() - {days}) \
                     FORMAT TabSeparated"
                ),
                &[],
            )
            .await?;
        for name in old.lines() {
            ensure!(
                matches!(name.len(), 6 | 8) && name.bytes().all(|byte| byte.is_ascii_digit()),
                "unexpected partition of {database}.{local}: {name:?}"
            );
            client
                .run(
                    &format!("ALTER TABLE {database}.{local}{on_cluster} DROP PARTITION {name}"),
                    &[],
                )
                .await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
