//! The agent's configuration: one TOML file.
//!
//! The types in `types` are what the rest of the agent sees. [`read()`] parses the file and reports errors in it;
//! [`load()`] also checks the files that it names.

mod load;
mod read;
mod types;

pub use fdwatch_http::Endpoint;

pub use self::{
    load::{Failure, Loaded, load, load_default},
    read::{ConfigError, read},
    types::{
        ALERTS, Alerts, Api, Config, EXAMPLE, FILE, Fleet, HISTORY, History, Metrics, Otlp, Rule,
        SOCKET, SPOOL, Threshold, Watch,
    },
};
