//! Threads of guests, started through the C library.
//!
//! A forked process must not use the standard library's threads: those hold a lock while they start or end
//! (std/src/sys/pal/unix/stack_overflow/thread_info.rs). fork does not handle this lock, so a child forked at
//! that moment would wait forever. The C library's fork handles its own locks.

use std::{ffi::c_void, mem, ptr};

/// A thread.
pub(super) struct Thread {
    thread: libc::pthread_t,
}

type Acts = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts a thread, or exits the process on failure.
    pub(super) fn start(acts: impl FnOnce() + Send + 'static) -> Self {
        let acts: Box<Acts> = Box::new(Box::new(acts));
        let mut thread = mem::MaybeUninit::uninit();
        // SAFETY: there is room for the thread, and the argument has the type that `run` expects.
        unsafe {
            let acts = Box::into_raw(acts).cast();
            if libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, acts) != 0 {
                libc::_exit(1);
            }
            Self {
                thread: thread.assume_init(),
            }
        }
    }

    /// Waits until it ends.
    pub(super) fn join(self) {
        // SAFETY: it was not joined before, and the result is unused.
        unsafe { libc::pthread_join(self.thread, ptr::null_mut()) };
    }
}

extern "C" fn run(acts: *mut c_void) -> *mut c_void {
    // SAFETY: `start` passed this type.
    let acts = unsafe { Box::from_raw(acts.cast::<Acts>()) };
    acts();
    ptr::null_mut()
}
