//! Lines that an agent reports as they happen.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;

use super::{
    Body, Budget, Dropped, Finding, Growth, Line, Loss, Object, Threshold, line::Head, name::Time,
};

/// Line of `/v1/events`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// Duplicate or deleted file.
    Finding(Box<Line<Finding>>),
    /// Growing table.
    Growth(Box<Line<Growth>>),
    /// Exceeded threshold.
    Threshold(Box<Line<Threshold>>),
    /// Lost records.
    Loss(Line<Loss>),
    /// Skipped work.
    Budget(Line<Budget>),
    /// End of the stream of a slow client.
    Dropped(Object<Dropped>),
    /// Line of a type that this version does not have.
    Unknown(Box<RawValue>),
}

impl Event {
    /// Returns when it happened; events without a time return `None`.
    #[must_use]
    pub fn time(&self) -> Option<&Time> {
        match self {
            Self::Finding(line) => Some(&line.time),
            Self::Growth(line) => Some(&line.time),
            Self::Threshold(line) => Some(&line.time),
            Self::Loss(line) => Some(&line.time),
            Self::Budget(line) => Some(&line.time),
            Self::Dropped(_) | Self::Unknown(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn line<T: DeserializeOwned, E: serde::de::Error>(text: &RawValue) -> Result<T, E> {
            serde_json::from_str(text.get()).map_err(E::custom)
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(match &*head.kind {
            Finding::TYPE => Self::Finding(line(&text)?),
            Growth::TYPE => Self::Growth(line(&text)?),
            Threshold::TYPE => Self::Threshold(line(&text)?),
            Loss::TYPE => Self::Loss(line(&text)?),
            Budget::TYPE => Self::Budget(line(&text)?),
            Dropped::TYPE => Self::Dropped(line(&text)?),
            _ => Self::Unknown(text),
        })
    }
}

/// Current findings, from an agent's `/v1/findings`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Findings {
    /// Host.
    pub host: String,
    /// Findings that are not listed.
    pub more: usize,
    /// Findings, growing tables and exceeded thresholds, most severe first.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::schema::Keyed>"))]
    pub findings: Vec<Event>,
}

impl Body for Findings {
    const TYPE: &'static str = "findings";
}
