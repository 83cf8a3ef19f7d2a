//! Rows on disk until the server has them: a directory of segments, which consist of frames of lines.
//!
//! A frame is a header line (`#fdwatch-spool 1 TABLE BYTES CRC32 ROWS`) followed by rows as they are sent. All rows
//! pass through the spool, so that the path after a failure is the normal path. A row survives the end of the agent
//! once [`Spool::append`] has returned, and a crash of the machine some seconds later ([`Spool::sync`]). The only
//! record of what was sent is that fully sent segments are deleted: after a restart, the rest of a segment is sent
//! again, and the server recognizes duplicates. Torn or damaged frames are skipped and counted.
//!
//! It is not a SQLite table for two reasons. A full disk must cost only the rows that do not fit and deleting a
//! segment must free its space immediately, while a database needs room for its write-ahead log even to delete; and one
//! damaged page can make a whole database unreadable, where a damaged frame costs itself alone.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use fdwatch_fleet::rows::Table;

const MARK: &str = "#fdwatch-spool 1 ";

/// Size at which a new segment starts: bytes.
const SEGMENT: u64 = 1 << 20;

/// Length limit of a frame's header: bytes.
const MAX_HEADER_LEN: usize = 100;

/// The spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    _lock: File,
    max_bytes: u64,
    /// Oldest first; the last one is written to if `writing` is set.
    segments: VecDeque<Segment>,
    writing: Option<File>,
    is_dirty: bool,
    next_number: u64,
    /// Rows dropped for lack of room, and bytes that could not be read.
    pub losses: Losses,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Offset up to which it was sent.
    sent: u64,
}

/// What the spool has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Findings deleted to make room.
    pub findings: u64,
    /// Rows of other tables deleted to make room.
    pub others: u64,
    /// Bytes of torn or damaged frames.
    pub damaged: u64,
}

/// Rows to send in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Their table.
    pub table: Table,
    /// The rows as lines of JSON.
    pub lines: Vec<u8>,
    /// The number of rows.
    pub rows: u64,
    segment: u64,
    end: u64,
}

impl Spool {
    /// Opens the spool in `directory`, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be accessed, or another agent uses it.
    pub fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))?;
        // SAFETY: the call takes a descriptor that is open.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another agent is using it",
            ));
        }
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".spool"));
            if let Some(number) = number.and_then(|it| u64::from_str_radix(it, 16).ok()) {
                segments.push(Segment {
                    number,
                    bytes: entry.metadata()?.len(),
                    sent: 0,
                });
            }
        }
        segments.sort_by_key(|segment| segment.number);
        let next_number = segments.last().map_or(0, |last| last.number + 1);
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
            max_bytes,
            segments: segments.into(),
            writing: None,
            is_dirty: false,
            next_number,
            losses: Losses::default(),
        })
    }

    /// Returns the size of the unsent part: bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments = self.segments.iter();
        segments.map(|it| it.bytes - it.sent.min(it.bytes)).sum()
    }

    /// Returns the size on disk: bytes.
    fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends rows. Deletes the oldest segments if there is no room.
    ///
    /// # Errors
    ///
    /// If they cannot be written; nothing of them remains then.
    pub fn append(&mut self, table: Table, lines: &[u8], rows: u64) -> io::Result<()> {
        let header = format!(
            "{MARK}{} {} {:08x} {rows}\n",
            table.name(),
            lines.len(),
            crc32fast::hash(lines)
        );
        let length = (header.len() + lines.len()) as u64;
        while self.size() + length > self.max_bytes && !self.segments.is_empty() {
            self.drop_oldest()?;
        }
        let is_full = self
            .segments
            .back()
            .is_some_and(|last| last.bytes >= self.segment_bytes());
        if is_full {
            self.end_segment()?;
        }
        if self.writing.is_none() {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&mut self.writing, self.segments.back_mut()) else {
            return Err(io::Error::other("no open segment"));
        };
        let written = file
            .write_all(header.as_bytes())
            .and_then(|()| file.write_all(lines));
        if let Err(error) = written {
            // Removes the part that was written. If that fails too, reading skips it as damaged.
            if file.set_len(segment.bytes).is_err() || file.seek(SeekFrom::End(0)).is_err() {
                segment.bytes = file.metadata().map_or(segment.bytes, |it| it.len());
                self.writing = None;
            }
            return Err(error);
        }
        segment.bytes += length;
        self.is_dirty = true;
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT.min(self.max_bytes / 8).max(4096)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}.spool"))
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.next_number;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(self.path(number))?;
        self.next_number += 1;
        self.segments.push_back(Segment {
            number,
            bytes: 0,
            sent: 0,
        });
        self.writing = Some(file);
        Ok(())
    }

    fn end_segment(&mut self) -> io::Result<()> {
        self.sync()?;
        self.writing = None;
        Ok(())
    }

    /// Flushes appended rows, so that they survive a crash of the machine.
    ///
    /// # Errors
    ///
    /// If the file cannot be flushed.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_dirty)
            && let Some(file) = &self.writing
        {
            file.sync_data()?;
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self) -> io::Result<()> {
        if self.segments.len() == 1 {
            self.end_segment()?;
        }
        let Some(oldest) = self.segments.front() else {
            return Ok(());
        };
        let (number, sent) = (oldest.number, oldest.sent);
        let bytes = self.read(number, sent)?;
        let mut frames = Frames::new(&bytes);
        for frame in &mut frames {
            match frame.table {
                Table::Findings => self.losses.findings += frame.rows,
                Table::Examples | Table::Heartbeats | Table::SharedFiles => {
                    self.losses.others += frame.rows;
                }
            }
        }
        self.losses.damaged += frames.damaged;
        self.remove_first()
    }

    fn remove_first(&mut self) -> io::Result<()> {
        if let Some(segment) = self.segments.front() {
            match fs::remove_file(self.path(segment.number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.segments.pop_front(),
            };
        }
        if self.segments.is_empty() {
            self.writing = None;
        }
        Ok(())
    }

    fn read(&self, number: u64, from: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = match File::open(self.path(number)) {
            // Someone deleted it: treat it as empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the oldest consecutive rows of one table, up to about `max_bytes`.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn next(&mut self, max_bytes: usize) -> io::Result<Option<Batch>> {
        while let Some(segment) = self.segments.front() {
            let (number, sent) = (segment.number, segment.sent);
            let bytes = self.read(number, sent)?;
            let mut frames = Frames::new(&bytes);
            let mut batch: Option<Batch> = None;
            for frame in &mut frames {
                let end = sent + frame.end as u64;
                match &mut batch {
                    None => {
                        batch = Some(Batch {
                            table: frame.table,
                            lines: frame.lines.to_vec(),
                            rows: frame.rows,
                            segment: number,
                            end,
                        });
                    }
                    Some(batch)
                        if batch.table == frame.table
                            && batch.lines.len() + frame.lines.len() <= max_bytes =>
                    {
                        batch.lines.extend_from_slice(frame.lines);
                        batch.rows += frame.rows;
                        batch.end = end;
                    }
                    Some(_) => break,
                }
            }
            if batch.is_some() {
                return Ok(batch);
            }
            self.losses.damaged += frames.damaged;
            self.remove_first()?;
        }
        Ok(None)
    }

    /// Removes a batch: the server has it, or rejected it.
    ///
    /// # Errors
    ///
    /// If a fully sent segment cannot be deleted.
    pub fn done(&mut self, batch: &Batch) -> io::Result<()> {
        // It may have been deleted meanwhile to make room.
        let Some(segment) = self.segments.front_mut() else {
            return Ok(());
        };
        if segment.number == batch.segment {
            segment.sent = batch.end;
            if segment.sent >= segment.bytes {
                return self.remove_first();
            }
        }
        Ok(())
    }
}

/// A frame of a segment.
struct Frame<'a> {
    table: Table,
    lines: &'a [u8],
    rows: u64,
    end: usize,
}

/// An iterator over the valid frames of a segment.
struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    damaged: u64,
}

impl<'a> Frames<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            damaged: 0,
        }
    }

    fn frame(&self) -> Option<Frame<'a>> {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .take(MAX_HEADER_LEN)
            .position(|it| *it == b'\n')?;
        let header = str::from_utf8(&rest[..end]).ok()?.strip_prefix(MARK)?;
        let mut words = header.split(' ');
        let table = Table::named(words.next()?)?;
        let length: usize = words.next()?.parse().ok()?;
        let sum = u32::from_str_radix(words.next()?, 16).ok()?;
        let rows = words.next()?.parse().ok()?;
        let lines = rest.get(end + 1..(end + 1).checked_add(length)?)?;
        (crc32fast::hash(lines) == sum).then_some(Frame {
            table,
            lines,
            rows,
            end: self.at + end + 1 + length,
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.at < self.bytes.len() {
            if let Some(frame) = self.frame() {
                self.at = frame.end;
                return Some(frame);
            }
            // No row starts like a header, so the next match is a header.
            let rest = &self.bytes[self.at + 1..];
            let next = rest
                .windows(MARK.len())
                .position(|it| it == MARK.as_bytes())
                .map_or(rest.len(), |at| at);
            self.damaged += next as u64 + 1;
            self.at += next + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(spool: &mut Spool) -> Vec<u8> {
        let mut lines = Vec::new();
        while let Some(batch) = spool.next(64).unwrap() {
            lines.extend(&batch.lines);
            spool.done(&batch).unwrap();
        }
        lines
    }

    #[test]
    fn rows_come_out_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
        let mut expected: Vec<u8> = Vec::new();
        for number in 0..1000 {
            let line = format!("{{\"n\":{number}}}\n");
            spool.append(Table::Findings, line.as_bytes(), 1).unwrap();
            expected.extend(line.as_bytes());
            if number == 500 {
                // A restart changes nothing.
                drop(spool);
                spool = Spool::open(directory.path(), 1 << 20).unwrap();
            }
        }
        assert_eq!(all(&mut spool), expected);
        assert_eq!((spool.bytes(), spool.losses), (0, Losses::default()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn unconfirmed_batch_is_returned_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
        spool.append(Table::Findings, b"1\n", 1).unwrap();
        spool.append(Table::Heartbeats, b"2\n", 1).unwrap();
        let first = spool.next(64).unwrap().unwrap();
        assert_eq!(spool.next(64).unwrap().as_ref(), Some(&first));
        spool.done(&first).unwrap();
        assert_eq!(spool.next(64).unwrap().unwrap().table, Table::Heartbeats);
    }

    #[test]
    fn oldest_rows_are_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 40_000).unwrap();
        let line = [b'x'; 999];
        for _ in 0..100 {
            spool
                .append(Table::Findings, &[&line[..], b"\n"].concat(), 1)
                .unwrap();
        }
        assert!(spool.size() <= 40_000);
        let left = all(&mut spool).len() as u64 / 1000;
        assert!(left > 20, "{left}");
        assert_eq!(spool.losses.findings + left, 100);
    }

    #[test]
    fn second_agent_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let _spool = Spool::open(directory.path(), 1 << 20).unwrap();
        let error = Spool::open(directory.path(), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "another agent is using it");
    }

    proptest! {
        #[test]
        fn torn_frame_costs_only_itself(cut in 1_usize..60, flip in proptest::option::of(0_usize..200)) {
            let directory = tempfile::tempdir().unwrap();
            let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
            for number in 0..5 {
                spool.append(Table::Findings, format!("row {number}\n").as_bytes(), 1).unwrap();
            }
            drop(spool);
            let path = directory.path().join("0000000000000000.spool");
            let mut bytes = fs::read(&path).unwrap();
            let frame = bytes.len() / 5;
            bytes.truncate(bytes.len() - cut.min(frame - 1));
            if let Some(at) = flip {
                let at = at % bytes.len();
                bytes[at] ^= 0x11;
            }
            fs::write(&path, &bytes).unwrap();
            let mut spool = Spool::open(directory.path(), 1 << 20).unwrap();
            spool.append(Table::Findings, b"after\n", 1).unwrap();
            let lines = String::from_utf8(all(&mut spool)).unwrap();
            let hit = flip.map(|at| at % bytes.len() / frame);
            let expected: String = (0..4)
                .filter(|number| hit != Some(*number))
                .map(|number| format!("row {number}\n"))
                .collect();
            prop_assert_eq!(lines, expected + "after\n");
            prop_assert!(spool.losses.damaged > 0);
        }
    }
}
