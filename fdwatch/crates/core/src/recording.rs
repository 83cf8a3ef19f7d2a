//! Recordings: the ring's records as they were read, for replay on other machines. Defines only the
//! format.
//!
//! A recording is a [`Preamble`] followed by frames. A frame is a header of 32 bytes (length, kind,
//! moment of reading, 8 reserved bytes, checksum of the contents, checksum of the header) and its
//! contents: records, each preceded by its length. Numbers are little-endian, except inside
//! records, which use the byte order of the recording machine; the preamble identifies it. The last
//! frame is [`Frame::End`]; a recording without it was cut off.
//!
//! The addresses of tables and files are replaced by numbers: they identify objects as well, and a
//! recording that is passed on reveals nothing about the layout of the kernel's memory.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut};
use fdwatch_common::Event;
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::model::{AnonymousDevices, Moment};
use crate::plural::counted;

/// The first bytes of every recording.
const MAGIC: [u8; 8] = *b"fdwatch\n";

/// Version of the format, and of the records in it.
const VERSION: u32 = 2;

/// Reads as another number on a machine with the opposite byte order.
const BYTE_ORDER: u32 = 0x0102_0304;

/// Maximum size of a frame's contents, in bytes. The ring is drained in smaller pieces.
const MAX_CONTENT_LEN: u32 = 1 << 28;

const PREAMBLE_LEN: usize = 112;

/// Size of the host name, in bytes, NUL-padded: the maximum of Linux.
const HOST_LEN: usize = 64;
const HEADER_LEN: usize = 32;

/// The start of a recording: facts about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Devices of anonymous files.
    pub anonymous: AnonymousDevices,
    /// Wall-clock time at `boottime`: nanoseconds since 1970.
    pub wall_time: u64,
    /// When the recording began: nanoseconds since boot.
    pub boottime: u64,
    /// The host's name.
    pub host: String,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Frame {
    /// Records that were read at the same moment.
    Records = 0,
    /// The start of a snapshot.
    BeginSnapshot = 1,
    /// The end of a snapshot.
    EndSnapshot = 2,
    /// Changes up to here were reported.
    Settle = 3,
    /// Total of lost records, 8 bytes.
    Lost = 4,
    /// The end of a complete recording.
    End = 5,
    /// The start of an audit.
    BeginAudit = 6,
    /// The end of an audit.
    EndAudit = 7,
    /// A process that has ended or has no descriptors: its number, 8 bytes.
    Forget = 8,
    /// The audit was abandoned.
    AbandonAudit = 9,
}

impl Frame {
    const ALL: [Self; 10] = [
        Self::Records,
        Self::BeginSnapshot,
        Self::EndSnapshot,
        Self::Settle,
        Self::Lost,
        Self::End,
        Self::BeginAudit,
        Self::EndAudit,
        Self::Forget,
        Self::AbandonAudit,
    ];
}

/// The reason a recording cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// Reading the input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Input without the preamble of a recording.
    #[error("not an fdwatch recording")]
    NotARecording,
    /// Unsupported version of the format.
    #[error("unsupported recording version {0} (expected {VERSION})")]
    Version(u32),
    /// Recording of a machine with the opposite byte order.
    #[error("unsupported byte order: the recording was made on another architecture")]
    ByteOrder,
    /// End of input before [`Frame::End`], after this many bytes.
    #[error("recording is truncated after {}", counted(*.0, "byte"))]
    CutOff(u64),
    /// Inconsistent contents: the offset in bytes, and the reason.
    #[error("recording is damaged at byte {0}: {1}")]
    Damaged(u64, &'static str),
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder<W> {
    output: W,
    /// Records of the next frame.
    pending: Vec<u8>,
    /// The number of each address: from 1, in the order of appearance. Smaller than the recording,
    /// because each address is first seen in a record of its own.
    numbers: FxHashMap<u64, u64>,
}

impl<W: Write> Recorder<W> {
    /// Starts a recording by writing the preamble.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn new(mut output: W, preamble: &Preamble) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(PREAMBLE_LEN);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_slice(&BYTE_ORDER.to_ne_bytes());
        for device in preamble.anonymous.0 {
            bytes.put_u32_le(device);
        }
        bytes.put_u64_le(preamble.wall_time);
        bytes.put_u64_le(preamble.boottime);
        bytes.put_u64_le(0);
        let mut host = [0; HOST_LEN];
        for (to, &from) in host.iter_mut().zip(preamble.host.as_bytes()) {
            *to = from;
        }
        bytes.put_slice(&host);
        output.write_all(&bytes)?;
        Ok(Self {
            output,
            pending: Vec::new(),
            numbers: FxHashMap::default(),
        })
    }

    /// Adds a record to the next [`Frame::Records`]. A malformed one keeps only its size.
    pub fn record(&mut self, record: &[u8]) {
        self.pending.put_u64_le(record.len() as u64);
        let begin = self.pending.len();
        match Event::parse(record) {
            Ok(event) => {
                self.pending.put_slice(record);
                for &at in event.addresses() {
                    if let Some(bytes) = self.pending[begin + at..].first_chunk_mut() {
                        let address = u64::from_ne_bytes(*bytes);
                        *bytes = number(&mut self.numbers, address).to_ne_bytes();
                    }
                }
            }
            Err(_) => self.pending.put_bytes(0, record.len()),
        }
        let padding = record.len().next_multiple_of(8) - record.len();
        self.pending.put_bytes(0, padding);
    }

    /// Writes the pending records, if any.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn flush_records(&mut self, at: Moment) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.write(Frame::Records, at, &pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    /// Writes a frame, after the pending records.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn frame(&mut self, frame: Frame, at: Moment, content: &[u8]) -> io::Result<()> {
        self.flush_records(at)?;
        self.write(frame, at, content)
    }

    /// Completes the recording and returns the output.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn end(mut self, at: Moment) -> io::Result<W> {
        self.frame(Frame::End, at, &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn write(&mut self, frame: Frame, at: Moment, content: &[u8]) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        let len = u32::try_from(content.len()).map_err(io::Error::other)?;
        header.put_u32_le(len);
        header.put_u32_le(frame as u32);
        header.put_u64_le(at.0);
        header.put_u64_le(0);
        header.put_u32_le(crc32fast::hash(content));
        header.put_u32_le(crc32fast::hash(&header));
        self.output.write_all(&header)?;
        self.output.write_all(content)
    }
}

/// Returns the number of an address. 0 stays 0: there is no object.
fn number(numbers: &mut FxHashMap<u64, u64>, address: u64) -> u64 {
    if address == 0 {
        return 0;
    }
    let next = numbers.len() as u64 + 1;
    *numbers.entry(address).or_insert(next)
}

/// Reads a recording.
#[derive(Debug)]
pub struct Player<R> {
    input: R,
    preamble: Preamble,
    at: u64,
    /// Contents of the last frame, in 8-byte words so that records are aligned as in the ring.
    words: Vec<u64>,
}

impl<R: Read> Player<R> {
    /// Opens a recording by reading the preamble.
    ///
    /// # Errors
    ///
    /// If it is not a recording, has another version or byte order, or cannot be read.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut bytes = [0; PREAMBLE_LEN];
        let read = fill(&mut input, &mut bytes)?;
        if read < MAGIC.len() || !bytes.starts_with(&MAGIC) {
            return Err(RecordingError::NotARecording);
        }
        if read < PREAMBLE_LEN {
            return Err(RecordingError::CutOff(read as u64));
        }
        let mut rest = &bytes[MAGIC.len()..];
        let version = rest.get_u32_le();
        if version != VERSION {
            return Err(RecordingError::Version(version));
        }
        if rest.get_u32_ne() != BYTE_ORDER {
            return Err(RecordingError::ByteOrder);
        }
        let anonymous = AnonymousDevices([rest.get_u32_le(), rest.get_u32_le()]);
        let (wall_time, boottime) = (rest.get_u64_le(), rest.get_u64_le());
        rest.advance(8);
        let host = rest.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Self {
            input,
            preamble: Preamble {
                anonymous,
                wall_time,
                boottime,
                host: String::from_utf8_lossy(host).into_owned(),
            },
            at: PREAMBLE_LEN as u64,
            words: Vec::new(),
        })
    }

    /// Returns the preamble.
    #[must_use]
    pub const fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Reads the next frame. [`Frame::End`] is the last one.
    ///
    /// # Errors
    ///
    /// If the recording is truncated or damaged, or cannot be read.
    pub fn next_frame(&mut self) -> Result<(Frame, Moment), RecordingError> {
        let begin = self.at;
        let damaged = |what| RecordingError::Damaged(begin, what);
        let mut header = [0; HEADER_LEN];
        self.read(&mut header)?;
        let mut rest = &header[..];
        let (len, kind) = (rest.get_u32_le(), rest.get_u32_le());
        let at = Moment(rest.get_u64_le());
        rest.advance(8);
        let (sum, header_sum) = (rest.get_u32_le(), rest.get_u32_le());
        if header_sum != crc32fast::hash(&header[..HEADER_LEN - 4]) {
            return Err(damaged("wrong header checksum"));
        }
        let frame = Frame::ALL.into_iter().find(|&frame| frame as u32 == kind);
        let frame = frame.ok_or(damaged("unknown frame type"))?;
        if len > MAX_CONTENT_LEN || !len.is_multiple_of(8) {
            return Err(damaged("invalid frame length"));
        }
        // In pieces, so that a forged length allocates no more than the input contains.
        self.words.clear();
        let mut left = len as usize / 8;
        while left > 0 {
            let piece = left.min(1 << 13);
            let from = self.words.len();
            self.words.resize(from + piece, 0);
            let mut words = std::mem::take(&mut self.words);
            let result = self.read(bytes_of_mut(&mut words[from..]));
            self.words = words;
            result?;
            left -= piece;
        }
        if crc32fast::hash(bytes_of(&self.words)) != sum {
            return Err(damaged("wrong content checksum"));
        }
        Ok((frame, at))
    }

    /// Passes each record of the last frame to `on_record`.
    ///
    /// # Errors
    ///
    /// If the length of a record exceeds the frame.
    pub fn records(&self, mut on_record: impl FnMut(&[u8])) -> Result<(), RecordingError> {
        let mut words = self.words.as_slice();
        while let [len, rest @ ..] = words {
            let len = usize::try_from(u64::from_le(*len)).unwrap_or(usize::MAX);
            let held = len.div_ceil(8);
            if held > rest.len() {
                return Err(RecordingError::Damaged(self.at, "record exceeds its frame"));
            }
            on_record(&bytes_of(&rest[..held])[..len]);
            words = &rest[held..];
        }
        Ok(())
    }

    /// Returns the number in the last frame; 0 if it contains none.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.words.first().map_or(0, |word| u64::from_le(*word))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), RecordingError> {
        let read = fill(&mut self.input, bytes)?;
        self.at += read as u64;
        if read < bytes.len() {
            return Err(RecordingError::CutOff(self.at));
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: integers have no padding, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

const fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as above; in addition, any bytes are valid integers.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{
        Exec, Exit, FdClose, FdOpen, Fork, Header, Kind, Payload, SetCloexec, SnapshotFile,
        SnapshotTask, TableBits,
    };
    use proptest::prelude::*;

    use super::*;

    fn preamble() -> Preamble {
        Preamble {
            anonymous: AnonymousDevices([14, 5]),
            wall_time: 5,
            boottime: 3,
            host: "here".to_owned(),
        }
    }

    fn exit(tgid: u32) -> Exit {
        let header = Header {
            kind: Kind::Exit as u8,
            tgid,
            ..Header::default()
        };
        Exit { header }
    }

    fn recording() -> Vec<u8> {
        let mut recorder = Recorder::new(Vec::new(), &preamble()).unwrap();
        recorder.record(exit(1).as_bytes());
        recorder.record(exit(2).as_bytes());
        recorder.frame(Frame::Settle, Moment(8), &[]).unwrap();
        let lost = 77u64.to_le_bytes();
        recorder.frame(Frame::Lost, Moment(9), &lost).unwrap();
        recorder.end(Moment(10)).unwrap()
    }

    /// Reads to the end and returns the number of records.
    fn play(bytes: &[u8]) -> Result<usize, RecordingError> {
        let mut player = Player::new(bytes)?;
        let mut count = 0;
        loop {
            match player.next_frame()? {
                (Frame::Records, _) => player.records(|record| {
                    assert!(record.as_ptr().cast::<u64>().is_aligned());
                    count += 1;
                })?,
                (Frame::End, _) => return Ok(count),
                _ => {}
            }
        }
    }

    #[test]
    fn recording_round_trips() {
        let bytes = recording();
        let mut player = Player::new(bytes.as_slice()).unwrap();
        assert_eq!(*player.preamble(), preamble());
        assert_eq!(player.next_frame().unwrap(), (Frame::Records, Moment(8)));
        let mut records = Vec::new();
        player
            .records(|record| records.push(record.to_vec()))
            .unwrap();
        assert_eq!(records, [exit(1).as_bytes(), exit(2).as_bytes()]);
        assert_eq!(player.next_frame().unwrap(), (Frame::Settle, Moment(8)));
        assert_eq!(player.next_frame().unwrap(), (Frame::Lost, Moment(9)));
        assert_eq!(player.number(), 77);
        assert_eq!(player.next_frame().unwrap(), (Frame::End, Moment(10)));
    }

    #[test]
    fn recording_has_no_kernel_addresses() {
        const TABLE: u64 = 0xffff_8880_0123_4500;
        const COPY: u64 = TABLE + 0x100;
        const FILE: u64 = TABLE + 0x200;
        let header = |kind: Kind| Header {
            kind: kind as u8,
            ..Header::default()
        };
        let payload = Payload {
            file: FILE,
            ..Payload::default()
        };
        let table = TABLE;
        let mut recorder = Recorder::new(Vec::new(), &preamble()).unwrap();
        let (mut open, mut file) = (FdOpen::default(), SnapshotFile::default());
        (open.header, open.table, open.payload) = (header(Kind::FdOpen), table, payload);
        (file.header, file.table, file.payload) = (header(Kind::SnapshotFile), table, payload);
        recorder.record(open.as_bytes());
        recorder.record(file.as_bytes());
        let (mut close, mut fork) = (FdClose::default(), Fork::default());
        (close.header, close.table, close.file) = (header(Kind::FdClose), COPY, FILE);
        recorder.record(close.as_bytes());
        close.file = 0;
        recorder.record(close.as_bytes());
        (fork.header, fork.table, fork.parent_table) = (header(Kind::Fork), COPY, TABLE);
        recorder.record(fork.as_bytes());
        let (mut exec, mut bits) = (Exec::default(), TableBits::default());
        (exec.header, exec.table) = (header(Kind::Exec), table);
        (bits.header, bits.table) = (header(Kind::TableBits), table);
        recorder.record(exec.as_bytes());
        recorder.record(bits.as_bytes());
        let (mut set, mut task) = (SetCloexec::default(), SnapshotTask::default());
        (set.header, set.table) = (header(Kind::SetCloexec), table);
        (task.header, task.table) = (header(Kind::SnapshotTask), table);
        recorder.record(set.as_bytes());
        recorder.record(task.as_bytes());
        // Truncated: the positions of its addresses are unknown.
        recorder.record(&open.as_bytes()[..48]);
        let bytes = recorder.end(Moment(1)).unwrap();

        for address in [TABLE, COPY, FILE].map(u64::to_ne_bytes) {
            assert!(!bytes.windows(8).any(|window| window == address));
        }
        let mut player = Player::new(bytes.as_slice()).unwrap();
        player.next_frame().unwrap();
        let mut numbers: Vec<Vec<u64>> = Vec::new();
        let number =
            |record: &[u8], at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
        let mut malformed = 0;
        player
            .records(|record| match Event::parse(record) {
                Ok(event) => {
                    let addresses = event.addresses().iter();
                    numbers.push(addresses.map(|&at| number(record, at)).collect());
                }
                Err(_) => malformed += 1,
            })
            .unwrap();
        let (opened, closed) = ([[1, 2], [1, 2]], [[3, 2], [3, 0], [3, 1]]);
        assert_eq!(numbers[..2], opened);
        assert_eq!(numbers[2..5], closed);
        assert_eq!(numbers[5..], [[1]; 4]);
        assert_eq!(malformed, 1);
    }

    #[test]
    fn truncated_recording_is_rejected() {
        let bytes = recording();
        for len in 0..bytes.len() {
            match play(&bytes[..len]).unwrap_err() {
                RecordingError::CutOff(at) => assert_eq!(at, len as u64),
                RecordingError::NotARecording => assert!(len < MAGIC.len()),
                other => panic!("{len}: {other}"),
            }
        }
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let bytes = recording();
        // The preamble has no checksum.
        for at in (0..16).chain(PREAMBLE_LEN..bytes.len()) {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(play(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            begin in any::<bool>(),
        ) {
            if begin {
                let mut begun = recording();
                begun.truncate(PREAMBLE_LEN);
                begun.append(&mut bytes);
                bytes = begun;
            }
            // No panic, and no allocation beyond the size of the input.
            let _ = play(&bytes);
        }
    }
}
