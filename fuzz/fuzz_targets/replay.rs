//! Any bytes as a recording: an error or a report, and no more memory or time than the bytes are
//! worth.
//!
//! Each input is played twice: as it is, and with its frames' lengths and checksums put right. What
//! is behind a checksum is hardly ever reached otherwise.

#![no_main]

use std::io;

use fdwatch::commands;
use fdwatch_core::{diagnose::Severity, filter::Filter, recording::Player};
use fdwatch_render::{Format, Reporter};
use fdwatch_events::time::Clock;
use libfuzzer_sys::fuzz_target;

/// As `fdwatch/src/recording.rs` has them.
const PREAMBLE: usize = 112;
const HEADER: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    play(bytes);
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    if mended != bytes {
        play(&mended);
    }
});

/// That it is no recording, or a damaged one, is an answer as good as any.
fn play(bytes: &[u8]) {
    let Ok(player) = Player::new(bytes) else {
        return;
    };
    let preamble = player.preamble();
    let clock = Clock::new(preamble.wall_time, preamble.boottime);
    let host = preamble.host.clone();
    let mut reporter = Reporter::new(io::sink(), Format::Json, host, clock);
    // Nothing is held back.
    let filter = Filter {
        severity: Severity::Info,
        ..Filter::default()
    };
    let _ = commands::play(player, &"input", &mut reporter, filter, false);
}

/// Makes all frames end where the input does at the latest, and their checksums right.
fn mend(bytes: &mut [u8]) {
    let mut rest = bytes.get_mut(PREAMBLE..).unwrap_or_default();
    while let Some((header, content)) = rest.split_at_mut_checked(HEADER) {
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let len = len.min(content.len()) / 8 * 8;
        let (held, after) = content.split_at_mut(len);
        header[..4].copy_from_slice(&(len as u32).to_le_bytes());
        header[24..28].copy_from_slice(&crc32fast::hash(held).to_le_bytes());
        let sum = crc32fast::hash(&header[..28]);
        header[28..].copy_from_slice(&sum.to_le_bytes());
        rest = after;
    }
}
