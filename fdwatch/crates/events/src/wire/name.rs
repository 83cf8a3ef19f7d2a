//! Names and texts with a form of their own.

use std::{borrow::Cow, fmt, ops::Deref};

use fdwatch_core::diagnose;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Text that is mostly one of a few constants.
pub type Text = Cow<'static, str>;

/// All severities.
const SEVERITIES: [diagnose::Severity; 3] = [
    diagnose::Severity::Info,
    diagnose::Severity::Warning,
    diagnose::Severity::Critical,
];

macro_rules! names {
    ($($name:ident: $doc:literal, $form:tt;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Text);

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&'static str> for $name {
            fn from(name: &'static str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Text {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!($form);
                schema.insert("type".to_owned(), "string".into());
                schema.insert("description".to_owned(), $doc.into());
                schema
            }
        }
    )*};
}

names! {
    Severity: "How much a finding matters.",
        {"enum": SEVERITIES.map(diagnose::Severity::name)};
    Change: "Whether it appeared, changed or disappeared.",
        {"enum": ["found", "changed", "gone"]};
    Cause: "Cause of a duplicate, or of a deleted file that is still open.",
        {"enum": diagnose::Cause::ALL.map(diagnose::Cause::name)};
    Access: "Access mode of a descriptor; `path` is O_PATH.",
        {"enum": ["r", "w", "rw", "path"]};
    ShedLevel: "Work that is skipped to stay within the CPU budget; each step includes those before it.",
        {"enum": fdwatch_core::budget::ShedLevel::ALL.map(fdwatch_core::budget::ShedLevel::name)};
    Status: "Health of an agent; `starting` means that it does not follow events yet, `stalled` that its event loop makes no progress.",
        {"enum": ["ok", "degraded", "starting", "stalled"]};
    CheckState: "Result of a check; `reduced` means that fdwatch works with reduced functionality, `unknown` that it could not be checked.",
        {"enum": ["ok", "unknown", "reduced", "missing"]};
    HostState: "State of a host; `loses` means that records or rows were lost.",
        {"enum": ["reports", "loses", "silent", "unreachable"]};
    Rule: "Rule of the lint of supervisord's configuration.",
        {"enum": [
            "refused", "missing-directory", "unwritable-log", "unrotatable-log", "shared-log", "own-log",
            "unseekable-log", "rotated-twice", "not-reopened", "relative-log", "unknown-section", "unknown-key",
            "not-included", "nothing-included", "same-name", "no-effect",
        ]};
    FileType: "Type of a file: regular, directory, link, pipe, socket, character, block, anonymous, or another that the kernel has.",
        {};
    Time: "Time of RFC 3339, in UTC.",
        {"format": "date-time"};
    Device: "Major and minor number of a device, such as `8:1`.",
        {"pattern": "^[0-9]+:[0-9]+$"};
    Hexadecimal: "All bytes of a text that is not UTF-8, in hexadecimal.",
        {"pattern": "^([0-9a-f]{2})+$"};
}

impl Time {
    /// Returns nanoseconds since 1970, or `None` if it is not a time.
    #[must_use]
    pub fn nanoseconds(&self) -> Option<u64> {
        let time: Timestamp = self.parse().ok()?;
        u64::try_from(time.as_nanosecond()).ok()
    }

    /// Returns seconds since 1970, or `None` if it is not a time.
    #[must_use]
    pub fn seconds(&self) -> Option<u32> {
        let time: Timestamp = self.parse().ok()?;
        u32::try_from(time.as_second()).ok()
    }

    /// Returns the time of seconds since 1970, to the second.
    #[must_use]
    pub fn of_seconds(seconds: u32) -> Self {
        let time = Timestamp::from_second(seconds.into());
        Self(time.unwrap_or_default().to_string().into())
    }
}

impl Severity {
    /// Returns the severity of that name, or `None` if this version does not have it.
    #[must_use]
    pub fn known(&self) -> Option<diagnose::Severity> {
        let mut all = SEVERITIES.into_iter();
        all.find(|severity| severity.name() == &**self)
    }
}

impl Hexadecimal {
    /// Returns the bytes, or `None` if it is not hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let pairs = self.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(byte).collect()
    }
}
