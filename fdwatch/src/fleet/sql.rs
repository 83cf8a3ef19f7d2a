//! The questions as SQL: fixed texts. What is asked for is in the table `asked`, of one row.
//!
//! They read rollups, but for the hosts of one signature, which lie together in the table of findings.

use serde::Deserialize;

use super::questions::{Asked, By, DAY, HOUR, TREND};

/// See [`signatures`].
#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) signature: String,
}

/// Duplicates by what they have in common.
pub(super) fn duplicates(by: By, asked: &Asked) -> String {
    // What they have in common, what that is told with, and how hosts and signatures are counted.
    let (key, names, hosts, signatures) = match by {
        By::Signature => (
            "signature",
            "signature, any(program) AS program, any(cause) AS cause, any(path) AS path",
            "uniqExactMerge(hosts_state)",
            "uniqExact(signature)",
        ),
        By::Service => (
            "program",
            "program",
            "uniqExactMerge(hosts_state)",
            "uniqExact(signature)",
        ),
        By::Path => (
            "path",
            "path",
            "uniqExactMerge(hosts_state)",
            "uniqExact(signature)",
        ),
        By::Host => ("host", "host", "toUInt64(1)", "uniqMerge(signatures_state)"),
    };
    let (period, unit) = period(asked);
    let (table, columns, only) = match by {
        By::Host => (
            format!("{period}_hosts"),
            "host, signatures_state",
            String::new(),
        ),
        _ => (
            period.to_owned(),
            "signature, program, cause, path, hosts_state",
            OF_SIGNATURE.to_owned(),
        ),
    };
    // What is new has no row before it, and which are new is known from their first times alone.
    let (begin, new) = if asked.first == 0 {
        ("(SELECT begin FROM asked)".to_owned(), String::new())
    } else {
        (
            format!(
                "greatest((SELECT begin FROM asked), \
                 intDiv((SELECT first FROM asked), {unit}) * {unit})"
            ),
            format!(
                " AND {key} GLOBAL IN (SELECT {key} FROM {table} \
                 WHERE hour >= toDateTime((SELECT begin FROM asked)) \
                 AND severity >= (SELECT severity FROM asked){only} \
                 GROUP BY {key} HAVING minMerge(first_state) >= (SELECT first FROM asked))"
            ),
        )
    };
    let trend: Vec<_> = (0..TREND)
        .map(|part| format!("uniqMergeIf(findings_state, part = {part})"))
        .collect();
    format!(
        "SELECT {names}, {hosts} AS hosts, {signatures} AS signatures, \
         uniqMerge(processes_state) AS processes, \
         uniqMerge(findings_state) AS findings, \
         uniqArrayMerge(descriptors_state) AS descriptors, \
         max(level) AS severity, minMerge(first_state) AS first, maxMerge(last_state) AS last, \
         [{}] AS trend \
         FROM (SELECT {columns}, severity AS level, processes_state, findings_state, \
         descriptors_state, first_state, last_state, \
         intDiv(greatest(toInt64(toUInt32(hour)), toInt64((SELECT since FROM asked))) \
         - toInt64((SELECT since FROM asked)), toInt64((SELECT width FROM asked))) AS part \
         FROM {table} WHERE hour >= toDateTime({begin}) \
         AND level >= (SELECT severity FROM asked){only}{new}) \
         GROUP BY {key} ORDER BY hosts DESC, findings DESC, {key} LIMIT 10001 FORMAT JSONEachRow",
        trend.join(", ")
    )
}

const OF_SIGNATURE: &str = " AND ((SELECT signature FROM asked) = '' \
     OR signature = (SELECT signature FROM asked))";

/// The rollup that has what is asked for, and the seconds that its rows are of.
const fn period(asked: &Asked) -> (&'static str, u32) {
    if asked.is_of_days() {
        ("daily", DAY)
    } else {
        ("hourly", HOUR)
    }
}

/// Signatures that begin as what is asked for.
pub(super) fn signatures(asked: &Asked) -> String {
    let (table, _) = period(asked);
    format!(
        "SELECT DISTINCT signature FROM {table} \
         WHERE hour >= toDateTime((SELECT begin FROM asked)) \
         AND startsWith(toString(signature), (SELECT signature FROM asked)) \
         ORDER BY signature LIMIT 21 FORMAT JSONEachRow"
    )
}

/// Who has a signature.
pub(super) const HOSTS_OF: &str = "\
     SELECT host, uniqExact(process) AS processes, uniqExact(key) AS findings, \
     toUInt32(min(time)) AS first, toUInt32(max(time)) AS last, argMax(file, time) AS file \
     FROM findings WHERE signature = (SELECT signature FROM asked) \
     AND time >= toDateTime((SELECT begin FROM asked)) \
     GROUP BY host ORDER BY last DESC, host LIMIT 10001 FORMAT JSONEachRow";

/// An example of it.
pub(super) const EXAMPLE: &str = "\
     SELECT host, toUInt32(time) AS time, frames, finding FROM examples \
     WHERE signature = (SELECT signature FROM asked) \
     ORDER BY frames != '' DESC, time DESC, host LIMIT 1 FORMAT JSONEachRow";

/// Who was heard of, and what of.
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
