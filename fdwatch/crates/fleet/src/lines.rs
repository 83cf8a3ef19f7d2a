//! Converts results to objects of the output.

use fdwatch_events::wire::{
    FleetDuplicates, FleetExample, FleetHost, FleetShared, FleetSignature, SignatureHost, Time,
};
use serde_json::value::RawValue;

use crate::{
    query::{AffectedHost, Duplicates, Host, SharedFile},
    source::SignatureDetails,
};

/// Converts a group of duplicates.
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

/// Converts a host. It counts as silent after `silent_after` seconds without a heartbeat.
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

/// Converts a shared file.
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

/// Converts the details of a signature.
#[must_use]
pub fn signature_line(shown: SignatureDetails) -> FleetSignature {
    let host = |host: AffectedHost| SignatureHost {
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
