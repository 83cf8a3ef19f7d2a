//! What can be asked of a fleet, and the form of the answers: the same from a server and from agents.
//! How they are shown is not known here.

use fdwatch_events::wire::{
    FleetDuplicates, FleetExample, FleetHost, FleetShared, FleetSignature, SignatureHost, Time,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{
    local_query::Rows,
    sql,
    store::{Client, StoreError},
};

/// Seconds of an hour: what rollups are of.
pub const HOUR: u32 = 3600;

/// Seconds of a day, which rollups are of, too.
pub const DAY: u32 = 86_400;

/// A window of so many hours or more is one of days.
const HOURS_OF_DAYS: u32 = 5 * 24;

/// Parts that a window is divided into, to show a trend.
pub const TREND: u32 = 12;

/// Lines that are shown, if nothing else is asked for.
pub const LINES: usize = 50;

/// Rows of an answer that are read, at most: there is one more if there were more.
pub const MAX_ROWS: usize = 10_000;

/// Rows of the hosts of one signature.
const MAX_NAMES: usize = 20;

/// What duplicates are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The same bug.
    #[default]
    Signature,
    /// The program.
    Service,
    /// The host.
    Host,
    /// The template of the path.
    Path,
}

/// Which duplicates are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// From this hour on they are looked at: seconds since 1970, of a full hour.
    pub begin: u32,
    /// From this hour on the trend is shown.
    pub since: u32,
    /// Seconds of each part of the trend: full hours.
    pub width: u32,
    /// Only what was first seen then or later.
    pub first: u32,
    /// Least severity: 1 to 3.
    pub severity: u8,
    /// Only this signature; all, if empty.
    pub signature: String,
}

impl Asked {
    /// What was there from `since` until `now`: from the full hour on, and where that is five days or
    /// more, from the full day.
    #[must_use]
    pub fn since(since: u32, now: u32, severity: u8) -> Self {
        let hours = now.saturating_sub(since) / HOUR + 1;
        let unit = if hours >= HOURS_OF_DAYS { DAY } else { HOUR };
        let begin = since - since % unit;
        let units = now.saturating_sub(begin) / unit + 1;
        Self {
            begin,
            since: begin,
            width: units.div_ceil(TREND) * unit,
            first: 0,
            severity,
            signature: String::new(),
        }
    }

    /// What came since then, and was not there in so many seconds before.
    #[must_use]
    pub fn new_since(since: u32, before: u32, now: u32, severity: u8) -> Self {
        let from = since.saturating_sub(before);
        Self {
            begin: from - from % HOUR,
            first: since,
            ..Self::since(since, now, severity)
        }
    }

    /// Whether it is of full days, for which there are rollups of days.
    pub(super) const fn is_of_days(&self) -> bool {
        self.width.is_multiple_of(DAY) && self.begin.is_multiple_of(DAY)
    }

    /// Only of this signature.
    #[must_use]
    pub fn of(mut self, signature: &str) -> Self {
        signature.clone_into(&mut self.signature);
        self
    }

    pub(super) const STRUCTURE: &str = "begin UInt32, since UInt32, width UInt32, first UInt32, \
                                        severity UInt8, signature String";
}

/// Duplicates that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicates {
    /// The signature, if that is what they have in common.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// The program, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// The cause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// The template of the path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// How many hosts have them.
    #[serde(deserialize_with = "number")]
    pub hosts: u64,
    /// How many signatures they are of.
    #[serde(deserialize_with = "number")]
    pub signatures: u64,
    /// How many processes.
    #[serde(deserialize_with = "number")]
    pub processes: u64,
    /// How many findings.
    #[serde(deserialize_with = "number")]
    pub findings: u64,
    /// How many descriptors, of each finding as many as it had at the most.
    #[serde(deserialize_with = "number")]
    pub descriptors: u64,
    /// The greatest severity: 1 to 3.
    pub severity: u8,
    /// When they were first seen in what was looked at: seconds since 1970.
    pub first: u32,
    /// And last.
    pub last: u32,
    /// Findings in each part of the time that was asked for.
    #[serde(default, deserialize_with = "numbers")]
    pub trend: Vec<u64>,
}

impl Duplicates {
    /// What they have in common, in the order that answers are in.
    pub(super) fn order(&self) -> (&str, &str, &str, &str) {
        (&self.signature, &self.program, &self.path, &self.host)
    }
}

/// The most hosts first, then the most findings; then by name.
pub(super) fn sort(all: &mut [Duplicates]) {
    all.sort_by(|one, other| {
        let most = |it: &Duplicates| (it.hosts, it.findings);
        most(other)
            .cmp(&most(one))
            .then_with(|| one.order().cmp(&other.order()))
    });
}

/// Lines of an answer that may have many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines<T> {
    /// Those that come first.
    pub shown: Vec<T>,
    /// How many there are; those that are in no answer beyond [`MAX_ROWS`] count as one.
    pub count: usize,
}

impl<T> Lines<T> {
    /// All there are, of which so many are shown.
    #[must_use]
    pub fn of(mut all: Vec<T>, most: usize) -> Self {
        let count = all.len();
        all.truncate(most.min(MAX_ROWS));
        Self { shown: all, count }
    }
}

/// A host that has a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostOf {
    /// Its name.
    pub host: String,
    /// How many processes.
    #[serde(deserialize_with = "number")]
    pub processes: u64,
    /// How many findings.
    #[serde(deserialize_with = "number")]
    pub findings: u64,
    /// When it was first seen: seconds since 1970.
    pub first: u32,
    /// And last.
    pub last: u32,
    /// A file it is about.
    pub file: String,
}

/// A finding as an example of its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Where.
    pub host: String,
    /// When: seconds since 1970.
    pub time: u32,
    /// Functions that made the last descriptor, one a line.
    pub frames: String,
    /// As `watch --json` has it.
    pub finding: String,
}

/// All there is of a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its numbers.
    pub all: Duplicates,
    /// Who has it, those first that had it last.
    pub hosts: Vec<HostOf>,
    /// An example, one with a stack if there is one.
    pub example: Option<Example>,
}

/// What came of a signature that may be shortened.
#[derive(Debug)]
pub enum Found {
    /// It is this one.
    One(Box<Shown>),
    /// It may be these.
    Several(Vec<String>),
    /// There is none.
    None,
}

/// A host, as it was told of last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub host: String,
    /// What it is for.
    pub labels: String,
    /// When it was heard of last: seconds since 1970.
    pub last: u32,
    /// fdwatch's version.
    pub version: String,
    /// The kernel's.
    pub kernel: String,
    /// What is left undone for the sake of the budget.
    pub mode: String,
    /// Records lost.
    #[serde(deserialize_with = "number")]
    pub lost: u64,
    /// What audits had to repair.
    #[serde(deserialize_with = "number")]
    pub drift: u64,
    /// Processor used of late: percent of one.
    pub cpu: f64,
    /// Memory: bytes.
    #[serde(deserialize_with = "number")]
    pub memory: u64,
    /// Findings there are.
    pub findings: u32,
    /// What waits to be written: bytes.
    #[serde(deserialize_with = "number")]
    pub spooled: u64,
    /// Rows that were dropped.
    #[serde(deserialize_with = "number")]
    pub dropped: u64,
    /// Descriptors that may write files of network file systems, and are not told of.
    #[serde(deserialize_with = "number")]
    pub files_left_out: u64,
    /// Why it could not be asked, if it is asked itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Host {
    /// In a word: `unreachable`, `silent`, `loses`, `reports`.
    #[must_use]
    pub fn state(&self, now: u32, silent_after: u32) -> &'static str {
        if !self.error.is_empty() {
            "unreachable"
        } else if self.last + silent_after < now {
            "silent"
        } else if self.lost > 0 || self.dropped > 0 {
            "loses"
        } else {
            "reports"
        }
    }
}

/// A file of a network file system that several hosts write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// What is mounted.
    pub network: String,
    /// The inode.
    #[serde(deserialize_with = "number")]
    pub ino: u64,
    /// A path of it.
    pub file: String,
    /// How many hosts.
    #[serde(deserialize_with = "number")]
    pub hosts: u64,
    /// Some of them, in order.
    pub names: Vec<String>,
    /// The programs, some of them.
    pub programs: Vec<String>,
    /// When last: seconds since 1970.
    pub last: u32,
}

/// Who answers.
#[derive(Debug)]
pub enum Source {
    /// A server.
    Server(Client),
    /// What agents told.
    Agents(Rows),
}

impl Source {
    /// Duplicates, put together: so many lines of them.
    ///
    /// # Errors
    ///
    /// If the server cannot be asked.
    pub async fn duplicates(
        &self,
        asked: &Asked,
        by: By,
        most: usize,
    ) -> Result<Lines<Duplicates>, StoreError> {
        let client = match self {
            Self::Agents(rows) => return Ok(Lines::of(rows.duplicates(asked, by), most)),
            Self::Server(client) => client,
        };
        // Of hosts there may be many times what is shown, and all of each takes the server long.
        let read = match by {
            By::Host => most.min(MAX_ROWS),
            _ => MAX_ROWS + 1,
        };
        let question = sql::duplicates(by, asked, read);
        let mut all: Vec<Duplicates> = client.ask(&question, Asked::STRUCTURE, asked).await?;
        sort(&mut all);
        let mut lines = Lines::of(all, most);
        if by == By::Host && lines.count == read {
            let count: Vec<sql::Count> = client
                .ask(&sql::count(asked), Asked::STRUCTURE, asked)
                .await?;
            let count = count.first().map_or(0, |it| it.count);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            lines.count = count.clamp(read, MAX_ROWS + 1);
        }
        Ok(lines)
    }

    /// All of a signature, or of the one that begins so.
    ///
    /// # Errors
    ///
    /// If the server cannot be asked.
    pub async fn show(&self, asked: &Asked) -> Result<Found, StoreError> {
        let mut names = match self {
            Self::Agents(rows) => rows.signatures(asked),
            Self::Server(client) => {
                let question = sql::signatures(asked);
                let names: Vec<sql::Name> = client.ask(&question, Asked::STRUCTURE, asked).await?;
                names.into_iter().map(|name| name.signature).collect()
            }
        };
        names.truncate(MAX_NAMES);
        let [name] = &names[..] else {
            return Ok(if names.is_empty() {
                Found::None
            } else {
                Found::Several(names)
            });
        };
        let asked = asked.clone().of(name);
        let all = self.duplicates(&asked, By::Signature, 1).await?;
        let Some(all) = all.shown.into_iter().next() else {
            return Ok(Found::None);
        };
        let (hosts, example) = match self {
            Self::Agents(rows) => (rows.hosts_of(&asked), rows.example(&asked)),
            Self::Server(client) => {
                let hosts = client.ask(sql::HOSTS_OF, Asked::STRUCTURE, &asked).await?;
                let mut examples = client.ask(sql::EXAMPLE, Asked::STRUCTURE, &asked).await?;
                (hosts, examples.pop())
            }
        };
        Ok(Found::One(Box::new(Shown {
            all,
            hosts,
            example,
        })))
    }

    /// Hosts that were heard of since then.
    ///
    /// # Errors
    ///
    /// If the server cannot be asked.
    pub async fn hosts(&self, asked: &Asked) -> Result<Vec<Host>, StoreError> {
        match self {
            Self::Agents(rows) => Ok(rows.hosts(asked)),
            Self::Server(client) => client.ask(sql::HOSTS, Asked::STRUCTURE, asked).await,
        }
    }

    /// Files of network file systems that several hosts wrote since then.
    ///
    /// # Errors
    ///
    /// If the server cannot be asked.
    pub async fn shared(&self, asked: &Asked) -> Result<Vec<SharedFile>, StoreError> {
        match self {
            Self::Agents(rows) => Ok(rows.shared(asked)),
            Self::Server(client) => client.ask(sql::SHARED, Asked::STRUCTURE, asked).await,
        }
    }
}

/// A number: servers write those of 64 bits with quotes or without, by their version and settings.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Several of them.
pub(super) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "number")] u64);
    let all = Vec::<One>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|One(number)| number).collect())
}

/// Returns the form of duplicates in the output.
#[must_use]
pub fn duplicates_line(all: Duplicates) -> FleetDuplicates {
    FleetDuplicates {
        signature: all.signature,
        program: all.program,
        cause: all.cause,
        path: all.path,
        host: all.host,
        hosts: all.hosts,
        signatures: all.signatures,
        processes: all.processes,
        findings: all.findings,
        descriptors: all.descriptors,
        severity: severity(all.severity).into(),
        first: Time::of_seconds(all.first),
        last: Time::of_seconds(all.last),
        trend: all.trend,
    }
}

/// Returns the name of a severity from 1 to 3; empty for others.
fn severity(level: u8) -> &'static str {
    const NAMES: [&str; 4] = ["", "info", "warning", "critical"];
    NAMES.get(usize::from(level)).copied().unwrap_or("")
}

/// Returns the form of a host in the output; it is silent after so many seconds.
#[must_use]
pub fn host_line(host: Host, now: u32, silent_after: u32) -> FleetHost {
    FleetHost {
        state: host.state(now, silent_after).into(),
        host: host.host,
        labels: host.labels,
        // Zero for a host that could not be reached.
        last: (host.last > 0).then(|| Time::of_seconds(host.last)),
        version: host.version,
        kernel: host.kernel,
        mode: host.mode,
        lost: host.lost,
        drift: host.drift,
        cpu: host.cpu,
        memory: host.memory,
        findings: host.findings,
        spooled: host.spooled,
        dropped: host.dropped,
        files_left_out: host.files_left_out,
        error: host.error,
    }
}

/// Returns the form of a shared file in the output.
#[must_use]
pub fn shared_line(file: SharedFile) -> FleetShared {
    FleetShared {
        network: file.network,
        ino: file.ino,
        file: file.file,
        hosts: file.hosts,
        names: file.names,
        programs: file.programs,
        last: Time::of_seconds(file.last),
    }
}

/// Returns the form of a signature in the output.
#[must_use]
pub fn signature_line(shown: Shown) -> FleetSignature {
    let host = |host: HostOf| SignatureHost {
        host: host.host,
        processes: host.processes,
        findings: host.findings,
        first: Time::of_seconds(host.first),
        last: Time::of_seconds(host.last),
        file: host.file,
    };
    FleetSignature {
        all: duplicates_line(shown.all),
        hosts: shown.hosts.into_iter().map(host).collect(),
        example: shown.example.map(|example| FleetExample {
            host: example.host,
            time: Time::of_seconds(example.time),
            frames: example.frames.into(),
            finding: RawValue::from_string(example.finding).ok(),
        }),
    }
}
