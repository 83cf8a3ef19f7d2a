//! Errors, returned instead of the requested object.

use serde::{Deserialize, Serialize};

use super::{Body, name::Text};

/// Reason why a request failed, for a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Error {
    /// Reason.
    pub error: Text,
}

impl Body for Error {
    const TYPE: &'static str = "error";
}

/// Last object of `/v1/events` for a client that read too slowly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Dropped {
    /// Number of missed events.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub missed: u64,
}

impl Body for Dropped {
    const TYPE: &'static str = "dropped";
}
