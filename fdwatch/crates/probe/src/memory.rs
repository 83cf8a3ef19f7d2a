//! Memory mappings of a command's processes, from perf events: other processes have no overhead.

use std::{io, sync::Arc};

use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};

use fdwatch_core::mappings::{Change, Mapping};

/// Size of the ring per processor, in bytes. Executing a program takes a few thousand.
const RING: usize = 1 << 20;

/// `PERF_RECORD_MISC_COMM_EXEC`, include/uapi/linux/perf_event.h: the name changed by exec.
const COMM_EXEC: u16 = 1 << 13;

/// Memory events of a process and its descendants.
pub struct MemoryEvents {
    /// One per processor: inherited events cannot cover all processors.
    samplers: Vec<Sampler>,
    /// Changes that cannot be put in order yet.
    waiting: Vec<(u64, Change)>,
    lost: u64,
}

impl MemoryEvents {
    /// Starts recording the process.
    ///
    /// # Errors
    ///
    /// If the events cannot be opened.
    pub fn of(tgid: u32) -> io::Result<Self> {
        let tgid = i32::try_from(tgid).map_err(io::Error::other)?;
        let mut samplers = Vec::new();
        for processor in 0..processors() {
            let counter = Builder::new(Software::DUMMY)
                .observe_pid(tgid)
                .one_cpu(processor)
                .inherit(true)
                .mmap(true)
                .mmap2(true)
                .comm(true)
                .comm_exec(true)
                .task(true)
                .sample_id_all(true)
                .sample(SampleFlag::TIME)
                .clockid(Clock::MONOTONIC)
                .enabled(true)
                .build();
            match counter.and_then(|counter| counter.sampled(RING)) {
                Ok(sampler) => samplers.push(sampler),
                // The processor is offline.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            samplers,
            waiting: Vec::new(),
            lost: 0,
        })
    }

    /// Passes the changes up to now to `on_change`, in order.
    pub fn take(&mut self, mut on_change: impl FnMut(Change)) {
        // Changes that happen during the loop may be in a ring that was read already.
        let until = monotonic();
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                // `sample_id_all` appends the time to each record.
                let bytes = record.to_contiguous();
                let time = bytes
                    .last_chunk()
                    .map_or(0, |time| u64::from_ne_bytes(*time));
                let is_exec = record.misc() & COMM_EXEC != 0;
                match record.parse_record() {
                    Ok(Record::Lost(lost)) => self.lost += lost.lost,
                    Ok(parsed) => {
                        let change = change(parsed, is_exec);
                        self.waiting.extend(change.map(|change| (time, change)));
                    }
                    Err(_) => self.lost += 1,
                }
            }
        }
        self.waiting.sort_by_key(|&(time, _)| time);
        let later = self.waiting.partition_point(|&(time, _)| time <= until);
        self.waiting
            .drain(..later)
            .for_each(|(_, change)| on_change(change));
    }

    /// Returns the number of lost events.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

fn change(record: Record<'_>, is_exec: bool) -> Option<Change> {
    match record {
        Record::Fork(fork) if fork.pid != fork.ppid => Some(Change::Forked {
            tgid: fork.pid,
            parent: fork.ppid,
        }),
        Record::Comm(comm) if is_exec => Some(Change::Execed { tgid: comm.pid }),
        Record::Mmap2(map) => Some(Change::Mapped {
            tgid: map.pid,
            mapping: Mapping {
                start: map.addr,
                end: map.addr.saturating_add(map.len),
                offset: map.pgoff,
                ino: map.ino().unwrap_or(0),
                path: path(&map.filename),
            },
        }),
        _ => None,
    }
}

/// Returns the path without its zero padding.
fn path(name: &[u8]) -> Arc<[u8]> {
    let end = name.iter().position(|&byte| byte == 0);
    name[..end.unwrap_or(name.len())].into()
}

fn processors() -> usize {
    // SAFETY: the call has no preconditions.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(configured).unwrap_or(1)
}

/// Returns the time of the clock that stamps the events, in nanoseconds.
fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` has room for the result, and all kernels have this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
