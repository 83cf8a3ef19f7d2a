//! The questions as SQL: fixed texts. What is asked for is in the table `asked`, of one row.
//!
//! They read rollups, but for the hosts of one signature, which lie together in the table of findings.

use serde::Deserialize;

use super::{
    questions::{Asked, By, DAY, HOUR, TREND, number},
    schema::tables::{DESCRIPTORS, FIRST, FOUND, HOSTS as HOSTS_SET, LAST, PROCESSES, SIGNATURES},
};

/// See [`signatures`].
#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) signature: String,
}

/// See [`count`].
#[derive(Debug, Deserialize)]
pub(super) struct Count {
    #[serde(deserialize_with = "number")]
    pub(super) count: u64,
}

/// Duplicates by what they have in common: so many of them, those on the most hosts and with the most
/// findings.
pub(super) fn duplicates(by: By, asked: &Asked, most: usize) -> String {
    // What they have in common, and what that is told with.
    let (key, names) = match by {
        By::Signature => (
            "signature",
            "signature, any(program) AS program, any(cause) AS cause, any(path) AS path",
        ),
        By::Service => ("program", "program"),
        By::Path => ("path", "path"),
        By::Host => ("host", "host"),
    };
    let (period, unit) = period(asked);
    let table = table(by, period);
    // How hosts and signatures are counted, of which columns, and of which rows.
    let (hosts, signatures, columns, only) = match by {
        By::Host => (
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
                "{key} GLOBAL IN (SELECT {key} FROM {table} \
                 WHERE hour >= toDateTime((SELECT begin FROM asked)) \
                 AND severity >= (SELECT severity FROM asked){only} \
                 GROUP BY {key} HAVING {} >= (SELECT first FROM asked))",
                FIRST.merge()
            ),
        )
    };
    // `PREWHERE`, for 18.16 makes no use of the table's order for `GLOBAL IN` that stands elsewhere.
    let before = |condition: &str| match condition {
        "" => String::new(),
        _ => format!(" PREWHERE {condition}"),
    };
    // There are many hosts: which have the most findings is known from these alone.
    let wanted = if by == By::Host {
        format!(
            "host GLOBAL IN (SELECT host FROM {table}{} WHERE hour >= toDateTime({begin}) \
             AND severity >= (SELECT severity FROM asked) \
             GROUP BY host ORDER BY {} DESC, host LIMIT {most})",
            before(&new),
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
         AND level >= (SELECT severity FROM asked){only}) \
         GROUP BY {key} ORDER BY hosts DESC, findings DESC, {key} LIMIT {most} FORMAT JSONEachRow",
        PROCESSES.merge(),
        FOUND.merge(),
        DESCRIPTORS.merge(),
        FIRST.merge(),
        LAST.merge(),
        trend.join(", "),
        before(&wanted),
    )
}

/// How many hosts have duplicates.
pub(super) fn count(asked: &Asked) -> String {
    let table = table(By::Host, period(asked).0);
    format!(
        "SELECT uniqExact(host) AS count FROM {table} \
         WHERE hour >= toDateTime((SELECT begin FROM asked)) \
         AND severity >= (SELECT severity FROM asked) FORMAT JSONEachRow"
    )
}

const OF_SIGNATURE: &str = " AND ((SELECT signature FROM asked) = '' \
     OR signature = (SELECT signature FROM asked))";

/// The rollup that has what is asked for.
fn table(by: By, period: &str) -> String {
    let of = if by == By::Host { "host" } else { "signature" };
    format!("{of}_{period}")
}

/// What its rows are of, and the seconds of that.
const fn period(asked: &Asked) -> (&'static str, u32) {
    if asked.is_of_days() {
        ("days", DAY)
    } else {
        ("hours", HOUR)
    }
}

/// Signatures that begin as what is asked for.
pub(super) fn signatures(asked: &Asked) -> String {
    let table = table(By::Signature, period(asked).0);
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
