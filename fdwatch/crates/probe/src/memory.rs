//! What the processes of a command map into their memory, as the kernel's perf events tell: only the
//! command's own processes pay for it.

use std::{io, sync::Arc};

use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};

use fdwatch_core::mappings::{Change, Mapping};

/// Bytes of the ring on each processor. A process that runs a program takes some thousand.
const RING: usize = 1 << 20;

/// `PERF_RECORD_MISC_COMM_EXEC`, include/uapi/linux/perf_event.h: the name is new because another
/// program is run.
const COMM_EXEC: u16 = 1 << 13;

/// The events of a process and all that come of it.
pub struct MemoryEvents {
    /// One for each processor: events that children inherit cannot be of all.
    samplers: Vec<Sampler>,
    /// What happened later than can be told in order yet.
    waiting: Vec<(u64, Change)>,
    lost: u64,
}

impl MemoryEvents {
    /// Those of the process `tgid`, from here on.
    ///
    /// # Errors
    ///
    /// If the kernel does not allow it.
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
                // It is not online.
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

    /// Hands over what happened until now, in order.
    pub fn take(&mut self, mut on_change: impl FnMut(Change)) {
        // What happens while these are read may be in one that was read already.
        let until = monotonic();
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                // With the time alone of what may be behind a record.
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

    /// How many of these events were lost.
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

/// Padded with zeroes.
fn path(name: &[u8]) -> Arc<[u8]> {
    let end = name.iter().position(|&byte| byte == 0);
    name[..end.unwrap_or(name.len())].into()
}

fn processors() -> usize {
    // SAFETY: the call has no requirements.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(configured).unwrap_or(1)
}

/// Nanoseconds of the clock that the events are timed by: one of those that may be read anywhere.
fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: there is room for what is written, and all kernels have this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
