//! Findings of many hosts in ClickHouse: the agent's writer, the schema, and the queries of `fdwatch fleet`.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod clickhouse;
mod cluster;
mod dashboards;
mod faults;
mod hosts;
mod network;
mod queries;
mod rows;
mod security;
mod shared;
mod upgrade;
