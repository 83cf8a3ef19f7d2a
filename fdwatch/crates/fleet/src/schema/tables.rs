//! The tables of each version of the schema.

/// Version of the schema. Older schemas on a server are upgraded to it.
pub const VERSION: u32 = 4;

/// Type of times: replaces `{TIME}` in columns.
pub(super) const TIME: &str = "DateTime('UTC')";
/// Type of repeated strings: replaces `{WORD}` in columns.
pub(super) const WORD: &str = "LowCardinality(String)";

const FINDINGS: &str = "\
time {TIME}, host {WORD}, labels {WORD}, run UInt64, number UInt64, key UInt64, process UInt64, \
signature {WORD}, program {WORD}, cause {WORD}, path {WORD}, severity UInt8, change UInt8, \
fds UInt32, pid UInt32, comm {WORD}, file String, network {WORD}, ino UInt64, writers UInt32";

const EXAMPLES: &str = "time {TIME}, host {WORD}, signature {WORD}, frames String, finding String";

const HEARTBEATS: &str = "\
time {TIME}, host {WORD}, labels {WORD}, run UInt64, version {WORD}, kernel {WORD}, mode {WORD}, \
events UInt64, lost UInt64, drift UInt64, not_followed UInt32, cpu Float64, memory UInt64, \
findings UInt32, spooled UInt64, dropped UInt64, files_left_out UInt64";

/// An aggregate state in a rollup: a set, or a time.
pub(crate) struct State {
    /// Name of the column, without `_state`.
    name: &'static str,
    /// Aggregate function.
    function: &'static str,
    /// Parameter of the function, in brackets, or nothing.
    parameter: &'static str,
    /// Type of the argument.
    kind: &'static str,
    /// Argument: an expression over columns of the source.
    argument: &'static str,
}

impl State {
    /// Returns the definition of the column.
    pub(super) fn column(&self) -> String {
        let Self {
            name,
            function,
            parameter,
            kind,
            ..
        } = self;
        format!("{name}_state AggregateFunction({function}{parameter}, {kind})")
    }

    /// Returns the expression that computes it from rows of the source.
    fn make(&self) -> String {
        let Self {
            name,
            function,
            parameter,
            argument,
            ..
        } = self;
        format!("{function}State{parameter}({argument}) AS {name}_state")
    }

    /// Returns the expression that merges the states of a group.
    pub(crate) fn merge(&self) -> String {
        let Self {
            name,
            function,
            parameter,
            ..
        } = self;
        format!("{function}Merge{parameter}({name}_state)")
    }

    /// Returns the same for the rows that meet a condition.
    pub(crate) fn merge_if(&self, condition: &str) -> String {
        let Self {
            name,
            function,
            parameter,
            ..
        } = self;
        format!("{function}MergeIf{parameter}({name}_state, {condition})")
    }
}

/// Function of sets: up to 2,048 elements as hashes of 32 bits, larger sets as a sketch of 12 KiB whose
/// count is accurate to about 1 %. `uniq`, with up to 65,536 hashes, takes ten times as long to merge.
const SET: &str = "uniqCombined";
const PRECISION: &str = "(14)";

/// Sets of hosts: up to 4,096 hashes, larger sets as a sketch of 24 KiB.
pub(crate) const HOSTS: State = State {
    name: "hosts",
    function: SET,
    parameter: "(15)",
    kind: "UInt64",
    argument: "cityHash64(host)",
};

pub(crate) const SIGNATURES: State = State {
    name: "signatures",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    argument: "cityHash64(signature)",
};

pub(crate) const PROCESSES: State = State {
    name: "processes",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    argument: "cityHash64(host, process)",
};

pub(crate) const FOUND: State = State {
    name: "findings",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    argument: "cityHash64(host, key)",
};

/// Sets of descriptors: each finding adds as many elements as its maximum, at most 256.
pub(crate) const DESCRIPTORS: State = State {
    name: "descriptors",
    function: "uniqCombinedArray",
    parameter: PRECISION,
    kind: "Array(UInt64)",
    argument: "arrayMap(i -> cityHash64(host, key) + i, range(toUInt64(least(fds, 256))))",
};

pub(crate) const FIRST: State = State {
    name: "first",
    function: "min",
    parameter: "",
    kind: "UInt32",
    argument: "toUInt32(time)",
};

pub(crate) const LAST: State = State {
    name: "last",
    function: "max",
    parameter: "",
    kind: "UInt32",
    argument: "toUInt32(time)",
};

/// States of all rollups.
const COMMON: [State; 5] = [PROCESSES, FOUND, DESCRIPTORS, FIRST, LAST];

/// A key column of a rollup, and its expression over columns of the source.
type Key = (&'static str, &'static str);

/// Keys and states of a rollup.
pub(super) struct Rollup {
    /// Hour or day.
    period: Key,
    keys: &'static [Key],
    /// State besides [`COMMON`].
    state: State,
}

impl Rollup {
    fn all_keys(&self) -> impl Iterator<Item = Key> {
        std::iter::once(self.period).chain(self.keys.iter().copied())
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.state).chain(&COMMON)
    }

    pub(super) fn select(&self) -> String {
        let keys = self.all_keys().map(|(name, expression)| {
            if name == expression {
                name.to_owned()
            } else {
                format!("{expression} AS {name}")
            }
        });
        let states = self.states().map(State::make);
        keys.chain(states).collect::<Vec<_>>().join(", ")
    }

    /// Returns the names of all columns, in the order of [`Self::select`].
    pub(super) fn columns(&self) -> String {
        let states = self.states().map(|state| format!("{}_state", state.name));
        let keys = self.all_keys().map(|(name, _)| name.to_owned());
        keys.chain(states).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn group(&self) -> String {
        let keys: Vec<_> = self.all_keys().map(|(name, _)| name).collect();
        keys.join(", ")
    }
}

const HOUR: Key = ("hour", "toStartOfHour(time)");
/// Days have the same column as hours, so that queries of both are the same. They are filled from findings
/// as well: 18.16 does not always run the views of a table that a view fills.
const DAY: Key = (
    "hour",
    "toDateTime(intDiv(toUInt32(time), 86400) * 86400, 'UTC')",
);
const SIGNATURE: Key = ("signature", "signature");
const HOST: Key = ("host", "host");
const SEVERITY: Key = ("severity", "severity");
/// Parts of a signature. They depend on it, and are keys because 26 allows only keys and states in an
/// `AggregatingMergeTree`.
const PROGRAM: Key = ("program", "program");
const CAUSE: Key = ("cause", "cause");
const PATH: Key = ("path", "path");

const SIGNATURE_COLUMNS: &str = "hour {TIME}, signature {WORD}, severity UInt8, program {WORD}, \
                           cause {WORD}, path {WORD}";
const HOST_COLUMNS: &str = "hour {TIME}, host {WORD}, severity UInt8";

/// Placeholder for all columns of the source, which are listed in the view: versions differ in what `*` in a
/// view means after a column is added.
pub(super) const ALL: &str = "*";

/// A table.
pub(super) struct TableSpec {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
    pub(super) rollup: Option<Rollup>,
    pub(super) engine: &'static str,
    pub(super) order: &'static str,
    /// Column of the time, for partitions and TTL.
    pub(super) time: &'static str,
    /// Rows per index entry.
    pub(super) granularity: u32,
    /// Partitioned by month rather than day: for small tables.
    pub(super) by_month: bool,
    /// Retained as long as rollups.
    pub(super) is_rollup: bool,
    /// Table that it is filled from, and the columns selected from it (empty for a rollup).
    pub(super) source: Option<(&'static str, &'static str)>,
}

impl TableSpec {
    /// Returns the SQL function that maps a time to its partition.
    pub(super) const fn partition(&self) -> &'static str {
        if self.by_month {
            "toYYYYMM"
        } else {
            "toYYYYMMDD"
        }
    }
}

/// Columns that each version added to existing tables: table, column and type. New tables have them.
pub(super) const ADDED: [&[(&str, &str, &str)]; VERSION as usize] = [
    &[],
    &[],
    &[
        ("heartbeats", "files_left_out", "UInt64"),
        ("hosts", "files_left_out", "UInt64"),
    ],
    &[],
];

/// Tables that each version added.
pub(super) const TABLES: [&[TableSpec]; VERSION as usize] = [
    &[
        TableSpec {
            name: "findings",
            columns: FINDINGS,
            rollup: None,
            engine: "ReplacingMergeTree",
            order: "signature, host, time, run, number",
            time: "time",
            granularity: 8192,
            by_month: false,
            is_rollup: false,
            source: None,
        },
        TableSpec {
            name: "examples",
            columns: EXAMPLES,
            rollup: None,
            // Up to 64 examples of each signature with a stack and 64 without, from different hosts; the
            // latest replaces others.
            engine: "ReplacingMergeTree(time)",
            order: "signature, frames != '', cityHash64(host) % 64",
            time: "time",
            granularity: 128,
            by_month: true,
            is_rollup: true,
            source: None,
        },
        TableSpec {
            name: "heartbeats",
            columns: HEARTBEATS,
            rollup: None,
            engine: "ReplacingMergeTree",
            order: "host, time, run",
            time: "time",
            granularity: 8192,
            by_month: false,
            is_rollup: false,
            source: None,
        },
        TableSpec {
            name: "hosts",
            columns: HEARTBEATS,
            rollup: None,
            engine: "ReplacingMergeTree(time)",
            order: "host",
            time: "time",
            granularity: 8192,
            by_month: true,
            is_rollup: true,
            source: Some(("heartbeats", ALL)),
        },
    ],
    &[TableSpec {
        name: "shared_files",
        columns: "time {TIME}, network {WORD}, ino UInt64, host {WORD}, program {WORD}, \
                  file String, writers UInt32",
        rollup: None,
        engine: "ReplacingMergeTree(time)",
        order: "network, ino, host, program",
        time: "time",
        granularity: 8192,
        by_month: true,
        is_rollup: true,
        source: Some((
            "findings",
            "time, network, ino, host, program, file, writers",
        )),
    }],
    &[],
    &[
        signature_rollup("signature_hours", HOUR, false),
        signature_rollup("signature_days", DAY, true),
        host_rollup("host_hours", HOUR, false),
        host_rollup("host_days", DAY, true),
    ],
];

/// Tables that each version removed, with the views that filled them. Their replacements are filled from
/// the rows that are retained.
pub(super) const REMOVED: [&[&str]; VERSION as usize] = [
    &[],
    &[],
    &[],
    &["hourly", "hourly_hosts", "daily", "daily_hosts"],
];

/// Returns a rollup by signature.
const fn signature_rollup(name: &'static str, period: Key, by_month: bool) -> TableSpec {
    TableSpec {
        columns: SIGNATURE_COLUMNS,
        order: "signature, hour, severity, program, cause, path",
        granularity: 128,
        ..rollup(
            name,
            period,
            &[SIGNATURE, SEVERITY, PROGRAM, CAUSE, PATH],
            HOSTS,
            by_month,
        )
    }
}

/// Returns a rollup by host. The rows of a host are adjacent: a query finds the hosts with the most
/// findings, then reads all columns of these only.
const fn host_rollup(name: &'static str, period: Key, by_month: bool) -> TableSpec {
    TableSpec {
        columns: HOST_COLUMNS,
        order: "host, hour, severity",
        granularity: 256,
        ..rollup(name, period, &[HOST, SEVERITY], SIGNATURES, by_month)
    }
}

/// Returns the common part of all rollups.
const fn rollup(
    name: &'static str,
    period: Key,
    keys: &'static [Key],
    state: State,
    by_month: bool,
) -> TableSpec {
    TableSpec {
        name,
        columns: "",
        rollup: Some(Rollup {
            period,
            keys,
            state,
        }),
        engine: "AggregatingMergeTree",
        order: "",
        time: "hour",
        granularity: 8192,
        by_month,
        is_rollup: true,
        source: Some(("findings", "")),
    }
}
