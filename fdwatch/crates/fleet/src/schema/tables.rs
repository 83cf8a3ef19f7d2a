//! What tables there are, of each version. How statements come of them is not known here.

use super::VERSION;

pub(super) const TIME: &str = "DateTime('UTC')";
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

/// A set, or a time, that rows of a rollup hold.
pub(crate) struct State {
    /// The column is called so, with `_state` behind it.
    name: &'static str,
    /// The function that makes it.
    function: &'static str,
    /// Its parameter, in brackets, if it has one.
    parameter: &'static str,
    /// Of which type.
    kind: &'static str,
    /// And of what.
    of: &'static str,
}

impl State {
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

    fn make(&self) -> String {
        let Self {
            name,
            function,
            parameter,
            of,
            ..
        } = self;
        format!("{function}State{parameter}({of}) AS {name}_state")
    }

    /// What it comes to, of rows that belong together.
    pub(crate) fn merge(&self) -> String {
        let Self {
            name,
            function,
            parameter,
            ..
        } = self;
        format!("{function}Merge{parameter}({name}_state)")
    }

    /// The same, of those of which this is true.
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

/// How sets are kept: of up to 2,048 by 32 bits of each one's hash, and beyond in 12 KiB, from which their
/// number is told within a percent or so. A set of 65,536 (`uniq`) takes ten times as long to merge with
/// the next hour's.
const SET: &str = "uniqCombined";
const PRECISION: &str = "(14)";

/// Of hosts there are 24 KiB, and up to 4,096 are kept by their hashes.
pub(crate) const HOSTS: State = State {
    name: "hosts",
    function: SET,
    parameter: "(15)",
    kind: "UInt64",
    of: "cityHash64(host)",
};

pub(crate) const SIGNATURES: State = State {
    name: "signatures",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    of: "cityHash64(signature)",
};

pub(crate) const PROCESSES: State = State {
    name: "processes",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    of: "cityHash64(host, process)",
};

pub(crate) const FOUND: State = State {
    name: "findings",
    function: SET,
    parameter: PRECISION,
    kind: "UInt64",
    of: "cityHash64(host, key)",
};

/// Of each finding there are as many descriptors as it had at the most: so that they can be counted as a
/// set. Beyond 256 of one finding they are not counted one by one.
pub(crate) const DESCRIPTORS: State = State {
    name: "descriptors",
    function: "uniqCombinedArray",
    parameter: PRECISION,
    kind: "Array(UInt64)",
    of: "arrayMap(i -> cityHash64(host, key) + i, range(toUInt64(least(fds, 256))))",
};

pub(crate) const FIRST: State = State {
    name: "first",
    function: "min",
    parameter: "",
    kind: "UInt32",
    of: "toUInt32(time)",
};

pub(crate) const LAST: State = State {
    name: "last",
    function: "max",
    parameter: "",
    kind: "UInt32",
    of: "toUInt32(time)",
};

/// What all rollups have.
const COMMON: [State; 5] = [PROCESSES, FOUND, DESCRIPTORS, FIRST, LAST];

/// A column that rows of a rollup are one by, and what it is made of.
type Key = (&'static str, &'static str);

/// A rollup: what its rows are of, and what they hold.
pub(super) struct Rollup {
    /// The columns that rows are one by, and how they are made of the table it is filled from.
    period: Key,
    keys: &'static [Key],
    /// Beside those in common.
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
        let keys = self.all_keys().map(|(name, of)| {
            if name == of {
                name.to_owned()
            } else {
                format!("{of} AS {name}")
            }
        });
        let states = self.states().map(State::make);
        keys.chain(states).collect::<Vec<_>>().join(", ")
    }

    /// The names of all its columns, in the order of [`Self::select`].
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
/// Days have the same name as hours, for questions to be the same of both. They are made of findings,
/// too: what fills a table is not always followed by what is filled from it (18.16).
const DAY: Key = (
    "hour",
    "toDateTime(intDiv(toUInt32(time), 86400) * 86400, 'UTC')",
);
const SIGNATURE: Key = ("signature", "signature");
const HOST: Key = ("host", "host");
const SEVERITY: Key = ("severity", "severity");
/// What a signature is made of. It is the same wherever that is, and a part of the key for the engines'
/// sake: 26 has no other columns in such a table.
const PROGRAM: Key = ("program", "program");
const CAUSE: Key = ("cause", "cause");
const PATH: Key = ("path", "path");

const BUG_COLUMNS: &str = "hour {TIME}, signature {WORD}, severity UInt8, program {WORD}, \
                           cause {WORD}, path {WORD}";
const HOST_COLUMNS: &str = "hour {TIME}, host {WORD}, severity UInt8";

/// All columns of the table that a view reads, one by one: what a view's `*` means when there are more
/// columns later is not the same in all versions.
pub(super) const ALL: &str = "*";

/// A table.
pub(super) struct Made {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
    pub(super) rollup: Option<Rollup>,
    pub(super) engine: &'static str,
    pub(super) order: &'static str,
    pub(super) time: &'static str,
    /// Rows that are read at once, at the least.
    pub(super) granularity: u32,
    /// By months rather than days, where there is little.
    pub(super) by_month: bool,
    /// How long it is kept: `true` as rollups are.
    pub(super) is_rollup: bool,
    /// The table that fills it, and what of that, where it is no rollup.
    pub(super) of: Option<(&'static str, &'static str)>,
}

impl Made {
    /// The function of its time that parts are by.
    pub(super) const fn part(&self) -> &'static str {
        if self.by_month {
            "toYYYYMM"
        } else {
            "toYYYYMMDD"
        }
    }
}

/// Columns that came with a version, to tables that were there before: table, column and type. Tables
/// that are made now have them.
pub(super) const ADDED: [&[(&str, &str, &str)]; VERSION as usize] = [
    &[],
    &[],
    &[
        ("heartbeats", "files_left_out", "UInt64"),
        ("hosts", "files_left_out", "UInt64"),
    ],
    &[],
];

/// Those of version 1, and those that came with later versions.
pub(super) const TABLES: [&[Made]; VERSION as usize] = [
    &[
        Made {
            name: "findings",
            columns: FINDINGS,
            rollup: None,
            engine: "ReplacingMergeTree",
            order: "signature, host, time, run, number",
            time: "time",
            granularity: 8192,
            by_month: false,
            is_rollup: false,
            of: None,
        },
        Made {
            name: "examples",
            columns: EXAMPLES,
            rollup: None,
            // Of each signature some, of different hosts, and the latest of these: with a stack, and without.
            engine: "ReplacingMergeTree(time)",
            order: "signature, frames != '', cityHash64(host) % 64",
            time: "time",
            granularity: 128,
            by_month: true,
            is_rollup: true,
            of: None,
        },
        Made {
            name: "heartbeats",
            columns: HEARTBEATS,
            rollup: None,
            engine: "ReplacingMergeTree",
            order: "host, time, run",
            time: "time",
            granularity: 8192,
            by_month: false,
            is_rollup: false,
            of: None,
        },
        Made {
            name: "hosts",
            columns: HEARTBEATS,
            rollup: None,
            engine: "ReplacingMergeTree(time)",
            order: "host",
            time: "time",
            granularity: 8192,
            by_month: true,
            is_rollup: true,
            of: Some(("heartbeats", ALL)),
        },
    ],
    &[Made {
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
        of: Some((
            "findings",
            "time, network, ino, host, program, file, writers",
        )),
    }],
    &[],
    &[
        of_bugs("signature_hours", HOUR, false),
        of_bugs("signature_days", DAY, true),
        of_hosts("host_hours", HOUR, false),
        of_hosts("host_days", DAY, true),
    ],
];

/// Tables of earlier versions that others stand for since a version, each with the view that filled it.
/// What the new ones hold is made of the rows that are kept.
pub(super) const GONE: [&[&str]; VERSION as usize] = [
    &[],
    &[],
    &[],
    &["hourly", "hourly_hosts", "daily", "daily_hosts"],
];

/// A rollup of each signature.
const fn of_bugs(name: &'static str, period: Key, by_month: bool) -> Made {
    Made {
        columns: BUG_COLUMNS,
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

/// A rollup of each host. What is of one lies together: those with the most findings are looked for first,
/// and all is read of those alone that are shown.
const fn of_hosts(name: &'static str, period: Key, by_month: bool) -> Made {
    Made {
        columns: HOST_COLUMNS,
        order: "host, hour, severity",
        granularity: 256,
        ..rollup(name, period, &[HOST, SEVERITY], SIGNATURES, by_month)
    }
}

/// What rollups have in common.
const fn rollup(
    name: &'static str,
    period: Key,
    keys: &'static [Key],
    state: State,
    by_month: bool,
) -> Made {
    Made {
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
        of: Some(("findings", "")),
    }
}
