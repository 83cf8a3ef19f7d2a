//! Queries over a fleet, answered by a server or from the rows of agents.

use serde::Serialize;

pub use super::query::{
    AffectedHost, DAY, Duplicates, Example, GroupBy, HOUR, Host, MAX_ROWS, Query, SharedFile, TREND,
};
use super::{
    local_query::Rows,
    query::sort,
    sql,
    store::{Client, StoreError},
};

/// Default maximum number of rows in the output.
pub const DEFAULT_LIMIT: usize = 50;

/// Maximum number of signatures listed for an ambiguous prefix.
const MAX_NAMES: usize = 20;

/// The first rows of a result, and the total number of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines<T> {
    /// The first rows.
    pub shown: Vec<T>,
    /// Total number of rows; [`MAX_ROWS`] + 1 means that many or more.
    pub count: usize,
}

impl<T> Lines<T> {
    /// Keeps the first `limit` rows.
    #[must_use]
    pub fn of(mut all: Vec<T>, limit: usize) -> Self {
        let count = all.len();
        all.truncate(limit.min(MAX_ROWS));
        Self { shown: all, count }
    }
}

/// Details of a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignatureDetails {
    /// Totals.
    pub all: Duplicates,
    /// Hosts that have it, most recent first.
    pub hosts: Vec<AffectedHost>,
    /// An example, with a stack if any has one.
    pub example: Option<Example>,
}

/// Result of the search for a signature by its prefix.
#[derive(Debug)]
pub enum SignatureMatch {
    /// One match.
    One(Box<SignatureDetails>),
    /// Several matches, by name.
    Several(Vec<String>),
    /// No match.
    None,
}

/// Source of the rows: a server or agents.
#[derive(Debug)]
pub enum Source {
    /// A ClickHouse server.
    Server(Client),
    /// Rows that agents reported.
    Agents(Rows),
}

impl Source {
    /// Returns groups of duplicates, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// If the server cannot be queried.
    pub async fn duplicates(
        &self,
        query: &Query,
        by: GroupBy,
        limit: usize,
    ) -> Result<Lines<Duplicates>, StoreError> {
        let client = match self {
            Self::Agents(rows) => return Ok(Lines::of(rows.duplicates(query, by), limit)),
            Self::Server(client) => client,
        };
        // There may be many more hosts than are shown, and aggregating each is slow: only those
        // shown are read, and the others are counted by a second query.
        let read = match by {
            GroupBy::Host => limit.min(MAX_ROWS),
            _ => MAX_ROWS + 1,
        };
        let statement = sql::duplicates(by, query, read);
        let mut all: Vec<Duplicates> = client.query(&statement, Query::STRUCTURE, query).await?;
        sort(&mut all);
        let mut lines = Lines::of(all, limit);
        if by == GroupBy::Host && lines.count == read {
            let count: Vec<sql::Count> = client
                .query(&sql::count(query), Query::STRUCTURE, query)
                .await?;
            let count = count.first().map_or(0, |it| it.count);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            lines.count = count.clamp(read, MAX_ROWS + 1);
        }
        Ok(lines)
    }

    /// Returns the details of the signature that has the query's signature as its prefix.
    ///
    /// # Errors
    ///
    /// If the server cannot be queried.
    pub async fn show(&self, query: &Query) -> Result<SignatureMatch, StoreError> {
        let mut names = match self {
            Self::Agents(rows) => rows.signatures(query),
            Self::Server(client) => {
                let statement = sql::signatures(query);
                let names: Vec<sql::Name> =
                    client.query(&statement, Query::STRUCTURE, query).await?;
                names.into_iter().map(|name| name.signature).collect()
            }
        };
        names.truncate(MAX_NAMES);
        let [name] = &names[..] else {
            return Ok(if names.is_empty() {
                SignatureMatch::None
            } else {
                SignatureMatch::Several(names)
            });
        };
        let query = query.clone().of(name);
        let all = self.duplicates(&query, GroupBy::Signature, 1).await?;
        let Some(all) = all.shown.into_iter().next() else {
            return Ok(SignatureMatch::None);
        };
        let (hosts, example) = match self {
            Self::Agents(rows) => (rows.hosts_of(&query), rows.example(&query)),
            Self::Server(client) => {
                let hosts = client
                    .query(sql::HOSTS_OF, Query::STRUCTURE, &query)
                    .await?;
                let mut examples = client.query(sql::EXAMPLE, Query::STRUCTURE, &query).await?;
                (hosts, examples.pop())
            }
        };
        Ok(SignatureMatch::One(Box::new(SignatureDetails {
            all,
            hosts,
            example,
        })))
    }

    /// Returns the hosts that sent a heartbeat in the window.
    ///
    /// # Errors
    ///
    /// If the server cannot be queried.
    pub async fn hosts(&self, query: &Query) -> Result<Vec<Host>, StoreError> {
        match self {
            Self::Agents(rows) => Ok(rows.hosts(query)),
            Self::Server(client) => client.query(sql::HOSTS, Query::STRUCTURE, query).await,
        }
    }

    /// Returns the files of network file systems that several hosts wrote in the window.
    ///
    /// # Errors
    ///
    /// If the server cannot be queried.
    pub async fn shared(&self, query: &Query) -> Result<Vec<SharedFile>, StoreError> {
        match self {
            Self::Agents(rows) => Ok(rows.shared(query)),
            Self::Server(client) => client.query(sql::SHARED, Query::STRUCTURE, query).await,
        }
    }
}
