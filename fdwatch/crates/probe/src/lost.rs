//! What the programs could not tell: counted by them, and by the kernel where it left them out.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use fdwatch_common::LOST_KINDS;
use fdwatch_core::Lost;

use super::Probe;

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
        Ok(Lost::new(sum, self.missed_runs()))
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
