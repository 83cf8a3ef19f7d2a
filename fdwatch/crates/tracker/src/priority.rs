//! Priority of the event loop. Events are lost if the loop does not run before the ring is full, which other
//! work with the same or a higher priority can cause. A high priority costs that work nothing: what the loop
//! may use is limited by the budget.

use std::{
    io,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
};

/// Default nice value of the event loop.
pub const DEFAULT_NICE: i32 = -15;

/// The nice value that other threads have: the one that fdwatch was started with, unless that was a priority.
static ORIGINAL: AtomicI32 = AtomicI32::new(0);

/// Sets the nice value of this thread. Threads that it starts inherit it: they call [`lower`].
///
/// # Errors
///
/// If the kernel refuses: a higher priority requires `CAP_SYS_NICE`.
pub(crate) fn set_up(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers only. A result of -1 is a valid priority.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // A service manager may have set that of the loop already.
    ORIGINAL.store(now.max(0), Relaxed);
    if now == nice { Ok(()) } else { set(nice) }
}

/// Gives this thread the normal priority.
pub fn lower() {
    // Lowering is always permitted.
    let _ = set(ORIGINAL.load(Relaxed));
}

fn set(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers only. 0 is this thread: priorities belong to threads on Linux.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_is_raised_and_lowered() {
        // In a thread, so that no other test runs with its priority.
        let thread = std::thread::spawn(|| {
            let nice = || {
                // SAFETY: the call takes numbers only.
                unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
            };
            let before = nice();
            if set_up(-3).is_ok() {
                assert_eq!(nice(), -3);
                lower();
                assert_eq!(nice(), before.max(0));
            }
        });
        thread.join().unwrap();
    }
}
