//! The questions as SQL: fixed texts. What is asked for is in the table `asked`, of one row.
//!
//! They read rollups, but for the hosts of one signature, which lie together in the table of findings.

use serde::Deserialize;

use super::questions::{By, Duplicates, TREND, numbers};

/// An answer to [`duplicates`].
#[derive(Debug, Deserialize)]
pub(super) struct DuplicatesRow {
    #[serde(flatten)]
    answer: Duplicates,
    #[serde(deserialize_with = "numbers")]
    parts: Vec<u64>,
    #[serde(deserialize_with = "numbers")]
    counts: Vec<u64>,
}

impl DuplicatesRow {
    /// With its parts in their order.
    pub(super) fn into_answer(mut self) -> Duplicates {
        self.answer.trend = vec![0; TREND as usize];
        for (part, count) in self.parts.into_iter().zip(self.counts) {
            let part = usize::try_from(part).ok();
            if let Some(place) = part.and_then(|part| self.answer.trend.get_mut(part)) {
                *place = count;
            }
        }
        self.answer
    }
}

/// See [`SIGNATURES`].
#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) signature: String,
}

/// Duplicates by what they have in common.
pub(super) fn duplicates(by: By) -> String {
    let (names, table, only) = match by {
        By::Signature => ("signature, program, cause, path", "hourly", OF_SIGNATURE),
        By::Service => ("program", "hourly", OF_SIGNATURE),
        By::Path => ("path", "hourly", OF_SIGNATURE),
        By::Host => ("host", "hourly_hosts", ""),
    };
    format!(
        "SELECT {names}, \
         uniqExactMerge(hosts_part) AS hosts, uniqMerge(signatures_part) AS signatures, \
         uniqMerge(processes_part) AS processes, uniqMerge(findings_part) AS findings, \
         uniqArrayMerge(descriptors_part) AS descriptors, max(severity_part) AS severity, \
         min(first_part) AS first, max(last_part) AS last, \
         groupArray(part) AS parts, groupArray(count_part) AS counts \
         FROM (SELECT {names}, \
         intDiv(greatest(toInt64(toUInt32(hour)), toInt64((SELECT since FROM asked))) \
         - toInt64((SELECT since FROM asked)), toInt64((SELECT width FROM asked))) AS part, \
         uniqExactMergeState(hosts_state) AS hosts_part, \
         uniqMergeState(signatures_state) AS signatures_part, \
         uniqMergeState(processes_state) AS processes_part, \
         uniqMergeState(findings_state) AS findings_part, \
         uniqArrayMergeState(descriptors_state) AS descriptors_part, \
         uniqMerge(findings_state) AS count_part, max(severity) AS severity_part, \
         minMerge(first_state) AS first_part, maxMerge(last_state) AS last_part \
         FROM {table} \
         WHERE hour >= toDateTime((SELECT begin FROM asked)) \
         AND severity >= (SELECT severity FROM asked){only} GROUP BY {names}, part) \
         GROUP BY {names} HAVING first >= (SELECT first FROM asked) \
         ORDER BY hosts DESC, findings DESC, {names} LIMIT 10001 FORMAT JSONEachRow"
    )
}

const OF_SIGNATURE: &str = " AND ((SELECT signature FROM asked) = '' \
     OR signature = (SELECT signature FROM asked))";

/// Signatures that begin as what is asked for.
pub(super) const SIGNATURES: &str = "\
     SELECT DISTINCT signature FROM hourly \
     WHERE hour >= toDateTime((SELECT begin FROM asked)) \
     AND startsWith(toString(signature), (SELECT signature FROM asked)) \
     ORDER BY signature LIMIT 21 FORMAT JSONEachRow";

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
