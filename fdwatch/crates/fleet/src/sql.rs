//! The queries as SQL: fixed texts that read their parameters from the table `asked`, which has one row.
//!
//! They read rollups, except for the hosts of one signature, whose rows are adjacent in `findings`.

use serde::Deserialize;

use super::{
    query::{DAY, GroupBy, HOUR, Query, TREND, number},
    schema::tables::{DESCRIPTORS, FIRST, FOUND, HOSTS as HOSTS_SET, LAST, PROCESSES, SIGNATURES},
};

/// Row of the result of [`signatures`].
#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) signature: String,
}

/// Row of the result of [`count`].
#[derive(Debug, Deserialize)]
pub(super) struct Count {
    #[serde(deserialize_with = "number")]
    pub(super) count: u64,
}

/// Returns the query of groups of duplicates: the first `limit` by hosts, then by findings.
pub(super) fn duplicates(by: GroupBy, query: &Query, limit: usize) -> String {
    // Column of the group's key, and the columns of its name.
    let (key, names) = match by {
        GroupBy::Signature => (
            "signature",
            "signature, any(program) AS program, any(cause) AS cause, any(path) AS path",
        ),
        GroupBy::Service => ("program", "program"),
        GroupBy::Path => ("path", "path"),
        GroupBy::Host => ("host", "host"),
    };
    let (period, unit) = period(query);
    let table = table(by, period);
    // Counts of hosts and of signatures, the columns they read, and the condition on rows.
    let (hosts, signatures, columns, condition) = match by {
        GroupBy::Host => (
            "toUInt64(1)".to_owned(),
            SIGNATURES.merge(),
            "host, signatures_state",
            "",
        ),
        _ => (
            HOSTS_SET.merge(),
            "uniqExact(signature)".to_owned(),
            "signature, program, cause, path, hosts_state",
            OF_SIGNATURE,
        ),
    };
    // New groups have no earlier rows, so they are selected by their first times.
    let (begin, new) = if query.first == 0 {
        ("(SELECT begin FROM asked)".to_owned(), String::new())
    } else {
        (
            format!(
                "greatest((SELECT begin FROM asked), \
                 intDiv((SELECT first FROM asked), {unit}) * {unit})"
            ),
            format!(
                "{key} GLOBAL IN (SELECT {key} FROM {table} \
                 WHERE hour >= toDateTime((SELECT begin FROM asked)) \
                 AND severity >= (SELECT severity FROM asked){condition} \
                 GROUP BY {key} HAVING {} >= (SELECT first FROM asked))",
                FIRST.merge()
            ),
        )
    };
    // `PREWHERE`: 18.16 uses the table's order for `GLOBAL IN` only there.
    let prewhere = |condition: &str| match condition {
        "" => String::new(),
        _ => format!(" PREWHERE {condition}"),
    };
    // There may be many hosts, so those with the most findings are selected by the count of findings only.
    let selection = if by == GroupBy::Host {
        format!(
            "host GLOBAL IN (SELECT host FROM {table}{} WHERE hour >= toDateTime({begin}) \
             AND severity >= (SELECT severity FROM asked) \
             GROUP BY host ORDER BY {} DESC, host LIMIT {limit})",
            prewhere(&new),
            FOUND.merge()
        )
    } else {
        new
    };
    let trend: Vec<_> = (0..TREND)
        .map(|part| FOUND.merge_if(&format!("part = {part}")))
        .collect();
    format!(
        "SELECT {names}, {hosts} AS hosts, {signatures} AS signatures, \
         {} AS processes, {} AS findings, {} AS descriptors, \
         max(level) AS severity, {} AS first, {} AS last, [{}] AS trend \
         FROM (SELECT {columns}, severity AS level, processes_state, findings_state, \
         descriptors_state, first_state, last_state, \
         intDiv(greatest(toInt64(toUInt32(hour)), toInt64((SELECT since FROM asked))) \
         - toInt64((SELECT since FROM asked)), toInt64((SELECT width FROM asked))) AS part \
         FROM {table}{} WHERE hour >= toDateTime({begin}) \
         AND level >= (SELECT severity FROM asked){condition}) \
         GROUP BY {key} ORDER BY hosts DESC, findings DESC, {key} LIMIT {limit} FORMAT JSONEachRow",
        PROCESSES.merge(),
        FOUND.merge(),
        DESCRIPTORS.merge(),
        FIRST.merge(),
        LAST.merge(),
        trend.join(", "),
        prewhere(&selection),
    )
}

/// Returns the query of the number of hosts that have duplicates.
pub(super) fn count(query: &Query) -> String {
    let table = table(GroupBy::Host, period(query).0);
    format!(
        "SELECT uniqExact(host) AS count FROM {table} \
         WHERE hour >= toDateTime((SELECT begin FROM asked)) \
         AND severity >= (SELECT severity FROM asked) FORMAT JSONEachRow"
    )
}

const OF_SIGNATURE: &str = " AND ((SELECT signature FROM asked) = '' \
     OR signature = (SELECT signature FROM asked))";

/// Returns the name of the rollup to read.
fn table(by: GroupBy, period: &str) -> String {
    let subject = if by == GroupBy::Host {
        "host"
    } else {
        "signature"
    };
    format!("{subject}_{period}")
}

/// Returns the period of the rollup, and its length in seconds.
const fn period(query: &Query) -> (&'static str, u32) {
    if query.is_daily() {
        ("days", DAY)
    } else {
        ("hours", HOUR)
    }
}

/// Returns the query of the signatures that start with the parameter.
pub(super) fn signatures(query: &Query) -> String {
    let table = table(GroupBy::Signature, period(query).0);
    format!(
        "SELECT DISTINCT signature FROM {table} \
         WHERE hour >= toDateTime((SELECT begin FROM asked)) \
         AND startsWith(toString(signature), (SELECT signature FROM asked)) \
         ORDER BY signature LIMIT 21 FORMAT JSONEachRow"
    )
}

/// The hosts that have a signature.
pub(super) const HOSTS_OF: &str = "\
     SELECT host, uniqExact(process) AS processes, uniqExact(key) AS findings, \
     toUInt32(min(time)) AS first, toUInt32(max(time)) AS last, argMax(file, time) AS file \
     FROM findings WHERE signature = (SELECT signature FROM asked) \
     AND time >= toDateTime((SELECT begin FROM asked)) \
     GROUP BY host ORDER BY last DESC, host LIMIT 10001 FORMAT JSONEachRow";

/// An example of a signature.
pub(super) const EXAMPLE: &str = "\
     SELECT host, toUInt32(time) AS time, frames, finding FROM examples \
     WHERE signature = (SELECT signature FROM asked) \
     ORDER BY frames != '' DESC, time DESC, host LIMIT 1 FORMAT JSONEachRow";

/// The latest heartbeat of each host.
pub(super) const HOSTS: &str = "\
     SELECT host, argMax(labels, time) AS labels, toUInt32(max(time)) AS last, \
     argMax(version, time) AS version, argMax(kernel, time) AS kernel, argMax(mode, time) AS mode, \
     argMax(lost, time) AS lost, argMax(drift, time) AS drift, argMax(cpu, time) AS cpu, \
     argMax(memory, time) AS memory, argMax(findings, time) AS findings, \
     argMax(spooled, time) AS spooled, argMax(dropped, time) AS dropped, \
     argMax(files_left_out, time) AS files_left_out \
     FROM hosts WHERE time >= toDateTime((SELECT begin FROM asked)) \
     GROUP BY host ORDER BY host LIMIT 10001 FORMAT JSONEachRow";

/// Files that several hosts write.
pub(super) const SHARED: &str = "\
     SELECT network, ino, argMax(file, time) AS file, uniqExact(host) AS hosts, \
     arraySlice(arraySort(groupUniqArray(toString(host))), 1, 20) AS names, \
     arraySlice(arraySort(groupUniqArray(toString(program))), 1, 20) AS programs, toUInt32(max(time)) AS last \
     FROM shared_files WHERE time >= toDateTime((SELECT begin FROM asked)) \
     GROUP BY network, ino HAVING hosts >= 2 \
     ORDER BY hosts DESC, network, ino LIMIT 10001 FORMAT JSONEachRow";
