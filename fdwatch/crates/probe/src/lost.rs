//! Lost records, counted by the programs, and skipped runs, counted by the kernel.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use fdwatch_common::LOST_KINDS;
use fdwatch_core::Lost;

use super::Probe;

impl Probe {
    /// Returns what was lost since the programs were loaded.
    ///
    /// # Errors
    ///
    /// If the counters cannot be read.
    pub fn lost(&self) -> io::Result<Lost> {
        let per_cpu = self.lost.get(&0, 0).map_err(io::Error::other)?;
        let mut sum = [0; LOST_KINDS];
        for counters in per_cpu.iter() {
            for (sum, counter) in sum.iter_mut().zip(counters) {
                *sum += counter;
            }
        }
        Ok(Lost::new(sum, self.missed_runs()))
    }

    /// Returns the number of program runs that the kernel skipped. It skips a run on a processor where another is
    /// in progress (`trace_call_bpf`, kernel/trace/bpf_trace.c), which happens where programs are
    /// preempted, as in 7.x. It counts them from 6.7 on, and reports the count in fdinfo.
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
