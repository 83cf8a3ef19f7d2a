//! The clock of all events.

use fdwatch_core::model::Moment;
use fdwatch_host::proc;

/// Returns the current time since boot.
pub fn now() -> Moment {
    Moment(proc::boottime())
}

/// Returns the CPU time of this thread, in nanoseconds.
pub(crate) fn thread_time() -> u64 {
    proc::thread_time()
}
