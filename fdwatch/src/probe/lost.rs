//! What the programs could not tell: counted by them, and by the kernel where it left them out.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use fdwatch_common::{Kind, LOST_KINDS};

use super::Probe;

/// What happened and was not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records that found no room in the ring, by the number of their kind.
    records: [u64; LOST_KINDS],
    /// Runs of programs that the kernel has left out, because another one was running there.
    missed_runs: u64,
}

impl Lost {
    /// Of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.records.iter().sum::<u64>() - self.detail_left_out() + self.missed_runs
    }

    /// Records of stacks and paths that were left out, so that nothing else be lost.
    #[must_use]
    pub fn detail_left_out(&self) -> u64 {
        Kind::DETAIL
            .map(|kind| self.records[kind as usize])
            .iter()
            .sum()
    }

    /// Runs of programs that the kernel has left out.
    #[must_use]
    pub const fn missed_runs(&self) -> u64 {
        self.missed_runs
    }

    /// Of each kind of which there are any, by name.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL
            .into_iter()
            .filter(|kind| !Kind::DETAIL.contains(kind))
            .map(|kind| (kind.name(), self.records[kind as usize]))
            .chain([("missed-run", self.missed_runs)])
            .filter(|&(_, lost)| lost > 0)
    }
}

impl Probe {
    /// What was lost since the programs were loaded.
    ///
    /// # Errors
    ///
    /// If the kernel does not let its counters be read.
    pub fn lost(&self) -> io::Result<Lost> {
        let per_cpu = self.lost.get(&0, 0).map_err(io::Error::other)?;
        let mut sum = [0; LOST_KINDS];
        for counters in per_cpu.iter() {
            for (sum, counter) in sum.iter_mut().zip(counters) {
                *sum += counter;
            }
        }
        Ok(Lost {
            records: sum,
            missed_runs: self.missed_runs(),
        })
    }

    /// How many runs of programs the kernel has left out. It does so when one is to run on a
    /// processor where another has not come to its end (`trace_call_bpf`, kernel/trace/bpf_trace.c):
    /// where programs are preempted, as in 7.x. It counts them from 6.7 on, and tells in fdinfo.
    fn missed_runs(&self) -> u64 {
        let programs = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok());
        let missed = programs.filter_map(|fd| {
            let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let info = fs::read_to_string(path).ok()?;
            let mut lines = info.lines();
            let missed = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
            missed.trim().parse::<u64>().ok()
        });
        missed.sum()
    }
}
