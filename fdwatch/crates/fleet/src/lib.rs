//! Findings of many hosts: aggregates duplicates, and identifies those with the same bug.
//!
//! Agents turn findings and heartbeats into [`rows`] and send them to a ClickHouse server ([`store`],
//! [`schema`], [`setup`], [`grants`]). Two findings of the same bug have the same [`signature`], made of
//! [`template`]s of their names. A [`query`] is run by the server (`sql`), or on the rows of
//! agents that are queried directly ([`local_query`], [`agents`]), with the same result ([`source`]). Files
//! of network file systems that several hosts write are found by [`network`] and inode.

pub mod agents;
pub mod grants;
mod hints;
pub mod lines;
pub mod local_query;
pub mod network;
pub mod query;
pub mod rows;
pub mod schema;
pub mod setup;
pub mod signature;
pub mod source;
mod sql;
pub mod store;
pub mod template;
