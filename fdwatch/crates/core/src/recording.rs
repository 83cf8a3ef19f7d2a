//! Recordings: the records of the ring as they were read, so that they can be gone through again
//! elsewhere. Only the form; where the bytes go and come from is not known here.
//!
//! A recording is a [`Preamble`] and then frames. A frame is a header of 32 bytes (its length, its
//! kind, a checksum of what it holds, the moment of reading) and what it holds: records, each behind
//! its length. All numbers are little-endian but those within records, which are the machine's own;
//! the preamble says which machine that was. The last frame is [`Frame::End`]: without it the
//! recording was cut off.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut};
use thiserror::Error;

use crate::model::{AnonymousDevices, Moment};
use crate::plural::counted;

/// What every recording begins with.
const MAGIC: [u8; 8] = *b"fdwatch\n";

/// Version of the form, and of the records in it.
const VERSION: u32 = 2;

/// Read as anything else on a machine with the other byte order.
const BYTE_ORDER: u32 = 0x0102_0304;

/// Bytes that a frame may hold. The ring is drained in smaller pieces.
const MAX_HELD: u32 = 1 << 28;

const PREAMBLE: usize = 112;

/// Bytes of the host's name, NUL-padded: as many as Linux allows.
const HOST: usize = 64;
const HEADER: usize = 32;

/// What a recording begins with: all there is to know of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The devices of files that are none.
    pub anonymous: AnonymousDevices,
    /// Nanoseconds since 1970, at the moment after this.
    pub wall_time: u64,
    /// Nanoseconds since boot.
    pub boottime: u64,
    /// The host's name.
    pub host: String,
}

/// A piece of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Frame {
    /// Records, read at one moment.
    Records = 0,
    /// A snapshot begins.
    BeginSnapshot = 1,
    /// It has ended.
    EndSnapshot = 2,
    /// What had changed was told.
    Settle = 3,
    /// Records were lost: how many in all, 8 bytes.
    Lost = 4,
    /// The recording has ended as it should.
    End = 5,
    /// A snapshot begins that is held against the model.
    BeginAudit = 6,
    /// It has ended.
    EndAudit = 7,
    /// A process was found to have ended, or to have no descriptors: its number, 8 bytes.
    Forget = 8,
    /// What begins with [`Self::BeginAudit`] was broken off.
    BreakOffAudit = 9,
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
        Self::BreakOffAudit,
    ];
}

/// Why a recording cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a recording of fdwatch")]
    NotARecording,
    /// It is of a newer fdwatch.
    #[error("the recording has version {0}, and this fdwatch reads version {VERSION}")]
    Version(u32),
    /// It is of a machine with the other byte order.
    #[error("the recording is of a machine with another byte order")]
    ByteOrder,
    /// It ends too early.
    #[error("the recording is cut off after {}", counted(*.0, "byte"))]
    CutOff(u64),
    /// It is not what was written.
    #[error("the recording is damaged at byte {0}: {1}")]
    Damaged(u64, &'static str),
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder<W> {
    output: W,
    /// The records of the frame that is being filled.
    held: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn new(mut output: W, preamble: &Preamble) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(PREAMBLE);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_slice(&BYTE_ORDER.to_ne_bytes());
        for device in preamble.anonymous.0 {
            bytes.put_u32_le(device);
        }
        bytes.put_u64_le(preamble.wall_time);
        bytes.put_u64_le(preamble.boottime);
        bytes.put_u64_le(0);
        let mut host = [0; HOST];
        for (to, &from) in host.iter_mut().zip(preamble.host.as_bytes()) {
            *to = from;
        }
        bytes.put_slice(&host);
        output.write_all(&bytes)?;
        Ok(Self {
            output,
            held: Vec::new(),
        })
    }

    /// Adds a record to those of the next [`Frame::Records`].
    pub fn record(&mut self, record: &[u8]) {
        self.held.put_u64_le(record.len() as u64);
        self.held.put_slice(record);
        let padding = record.len().next_multiple_of(8) - record.len();
        self.held.put_bytes(0, padding);
    }

    /// Writes the records there are, if any.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn flush_records(&mut self, at: Moment) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.write(Frame::Records, at, &held)?;
        self.held = held;
        self.held.clear();
        Ok(())
    }

    /// Writes a frame, after the records there are.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn frame(&mut self, frame: Frame, at: Moment, content: &[u8]) -> io::Result<()> {
        self.flush_records(at)?;
        self.write(frame, at, content)
    }

    /// Ends the recording.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn end(mut self, at: Moment) -> io::Result<W> {
        self.frame(Frame::End, at, &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn write(&mut self, frame: Frame, at: Moment, content: &[u8]) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER);
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

/// Reads a recording.
#[derive(Debug)]
pub struct Player<R> {
    input: R,
    preamble: Preamble,
    at: u64,
    /// Eight-byte words, for the records to be aligned as in the ring.
    words: Vec<u64>,
}

impl<R: Read> Player<R> {
    /// Begins to read one.
    ///
    /// # Errors
    ///
    /// If it is none, or of another version.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut bytes = [0; PREAMBLE];
        let read = fill(&mut input, &mut bytes)?;
        if read < MAGIC.len() || !bytes.starts_with(&MAGIC) {
            return Err(RecordingError::NotARecording);
        }
        if read < PREAMBLE {
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
            at: PREAMBLE as u64,
            words: Vec::new(),
        })
    }

    /// What it begins with.
    #[must_use]
    pub const fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Reads the next frame. After [`Frame::End`] there is none.
    ///
    /// # Errors
    ///
    /// If it is cut off or damaged.
    pub fn next_frame(&mut self) -> Result<(Frame, Moment), RecordingError> {
        let begin = self.at;
        let damaged = |what| RecordingError::Damaged(begin, what);
        let mut header = [0; HEADER];
        self.read(&mut header)?;
        let mut rest = &header[..];
        let (len, kind) = (rest.get_u32_le(), rest.get_u32_le());
        let at = Moment(rest.get_u64_le());
        rest.advance(8);
        let (sum, header_sum) = (rest.get_u32_le(), rest.get_u32_le());
        if header_sum != crc32fast::hash(&header[..HEADER - 4]) {
            return Err(damaged("the checksum of a header is wrong"));
        }
        let frame = Frame::ALL.into_iter().find(|&frame| frame as u32 == kind);
        let frame = frame.ok_or(damaged("there is no such kind of frame"))?;
        if len > MAX_HELD || !len.is_multiple_of(8) {
            return Err(damaged("no frame is of this length"));
        }
        // Read piece by piece, so that a length is not believed before the bytes are there.
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
            return Err(damaged("the checksum of its content is wrong"));
        }
        Ok((frame, at))
    }

    /// The records of the frame that was read last.
    ///
    /// # Errors
    ///
    /// If their lengths make no sense.
    pub fn records(&self, mut on_record: impl FnMut(&[u8])) -> Result<(), RecordingError> {
        let mut words = self.words.as_slice();
        while let [len, rest @ ..] = words {
            let len = usize::try_from(u64::from_le(*len)).unwrap_or(usize::MAX);
            let held = len.div_ceil(8);
            if held > rest.len() {
                return Err(RecordingError::Damaged(self.at, "a record is too long"));
            }
            on_record(&bytes_of(&rest[..held])[..len]);
            words = &rest[held..];
        }
        Ok(())
    }

    /// The number that the frame that was read last holds; 0 if it holds none.
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

/// Reads as much as there is.
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
    // SAFETY: integers are nothing but bytes, and the length is theirs.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

const fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are integers.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{Exit, Header, Kind};
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

    /// Reads to the end, and says how many records there were.
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
    fn what_was_recorded_is_read_back() {
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
    fn one_that_is_cut_off_says_so_wherever_it_is() {
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
    fn every_changed_bit_is_noticed() {
        let bytes = recording();
        // The preamble's numbers may be any.
        for at in (0..16).chain(PREAMBLE..bytes.len()) {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(play(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_recording(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            begin in any::<bool>(),
        ) {
            if begin {
                let mut begun = recording();
                begun.truncate(PREAMBLE);
                begun.append(&mut bytes);
                bytes = begun;
            }
            // No panic, and no more memory than there are bytes.
            let _ = play(&bytes);
        }
    }
}
