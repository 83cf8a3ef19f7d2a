//! What all objects begin with.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;

use super::name::{Text, Time};

/// Version of all objects. Fields may be added within one version; none changes its meaning.
pub const SCHEMA: u32 = 1;

/// Fields of one type of object.
pub trait Body {
    /// Name of the type, the `type` field.
    const TYPE: &'static str;
}

/// Object with a time and a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}"))]
pub struct Line<T> {
    /// Version of the schema.
    pub schema: u32,
    /// Type of the object.
    #[serde(rename = "type")]
    pub kind: Text,
    /// When it was observed.
    pub time: Time,
    /// Host it was observed on.
    pub host: String,
    /// Fields of the type.
    #[serde(flatten)]
    pub body: T,
}

/// Object without a time or host of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}"))]
pub struct Object<T> {
    /// Version of the schema.
    pub schema: u32,
    /// Type of the object.
    #[serde(rename = "type")]
    pub kind: Text,
    /// Fields of the type.
    #[serde(flatten)]
    pub body: T,
}

impl<T: Body> Line<T> {
    /// Adds the header to `body`.
    pub fn new(time: Time, host: String, body: T) -> Self {
        Self {
            schema: SCHEMA,
            kind: T::TYPE.into(),
            time,
            host,
            body,
        }
    }
}

impl<T: Body> Object<T> {
    /// Adds the header to `body`.
    pub fn new(body: T) -> Self {
        Self {
            schema: SCHEMA,
            kind: T::TYPE.into(),
            body,
        }
    }
}

/// Header of any object; fields that it does not have are empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    schema: u32,
    #[serde(rename = "type")]
    pub(super) kind: Text,
    time: Time,
    host: String,
}

// `flatten` would buffer the whole body, and cannot hold a `RawValue`. Reading is rare: the text is
// parsed once for the header and once for the body.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Line<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (head, body) = parse(deserializer)?;
        Ok(Self {
            schema: head.schema,
            kind: head.kind,
            time: head.time,
            host: head.host,
            body,
        })
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (head, body) = parse(deserializer)?;
        Ok(Self {
            schema: head.schema,
            kind: head.kind,
            body,
        })
    }
}

fn parse<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(Head, T), D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    let head = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
    let body = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
    Ok((head, body))
}
