//! Many hosts: which duplicates there are on all of them, and which of these are the same bug.
//!
//! An agent makes [`rows`] of what it tells and writes them, by its [`spool`], to a ClickHouse
//! ([`writer`], [`store`], [`schema`]). What two findings have in common that are the same bug is their
//! [`signature`], made of [`template`]s. [`questions`] are answered by that server (`sql`), or from
//! the rows of a handful of agents that are asked themselves ([`memory`], [`agents`]): the answers
//! have the same form. Beside findings, hosts tell which files of network file systems they write
//! (`written`, `network`).

pub mod agents;
pub mod grants;
mod hints;
pub mod local_query;
pub mod network;
pub mod questions;
pub mod rows;
pub mod schema;
pub mod setup;
pub mod signature;
mod sql;
pub mod store;
pub mod template;
