//! Replays arbitrary bytes as a recording, which must end in an error or a report, within limits of memory and time.
//!
//! Each input is played twice: unchanged, and with corrected lengths and checksums of its frames. Without, the code
//! behind a checksum is hardly ever reached.

#![no_main]

use std::io;

use fdwatch::commands;
use fdwatch_core::{diagnose::Severity, filter::Filter, recording::Player};
use fdwatch_events::{time::Clock, wire::Wire};
use fdwatch_render::{Format, Reporter};
use libfuzzer_sys::fuzz_target;

/// Sizes of the recording format.
const PREAMBLE: usize = 112;
const HEADER: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    play(bytes);
    let mut corrected = bytes.to_vec();
    correct(&mut corrected);
    if corrected != bytes {
        play(&corrected);
    }
});

/// Replays a recording. An error is a valid result.
fn play(bytes: &[u8]) {
    let Ok(player) = Player::new(bytes) else {
        return;
    };
    let preamble = player.preamble();
    let clock = Clock::new(preamble.wall_time, preamble.boottime);
    let host = preamble.host.clone();
    let mut reporter = Reporter::new(io::sink(), Format::Json, Wire::new(host, clock));
    // Reports everything.
    let filter = Filter {
        severity: Severity::Info,
        ..Filter::default()
    };
    let _ = commands::play(player, &"input", &mut reporter, filter, false);
}

/// Truncates frames at the end of the input and corrects their checksums.
fn correct(bytes: &mut [u8]) {
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
