//! supervisord configurations: the processes that they define, the logs of these, and problems with the logs.
//!
//! Pure: a [`Host`] supplies files, file names, the environment and the host's name. Errors that prevent
//! supervisord from starting are found with their lines, except those that only Python can find
//! (plugins, users).

mod config;
mod expand;
pub mod host;
mod ini;
mod keys;
pub mod lint;
pub mod logrotate;
pub mod pattern;
mod programs;
mod read;
mod reader;
mod running;
mod uses;
pub mod values;

pub use self::{
    config::{
        Config, Daemon, Log, MAX_PROCESSES, Process, Setting, Stream, Target, Warning, WarningKind,
    },
    expand::{ExpandError, Names, Value, expand},
    host::Host,
    ini::{Document, Entry, Fault, Location, Section},
    read::{ReadError, read},
    running::configurations,
    uses::{LogOwner, Use, uses},
};

#[cfg(test)]
mod tests;
