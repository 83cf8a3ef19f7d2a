//! Threads of guests, started by the C library alone.
//!
//! A forked process may not use the standard library's: that holds a lock of its own while a thread
//! starts or ends (std/src/sys/pal/unix/stack_overflow/thread_info.rs), which fork knows nothing
//! of, so that a child of another thread at that moment finds it held for ever. The C library's
//! locks are taken care of by its fork.

use std::{ffi::c_void, mem, ptr};

/// A thread.
pub(super) struct Thread {
    thread: libc::pthread_t,
}

type Acts = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts one, or ends the process.
    pub(super) fn start(acts: impl FnOnce() + Send + 'static) -> Self {
        let acts: Box<Acts> = Box::new(Box::new(acts));
        let mut thread = mem::MaybeUninit::uninit();
        // SAFETY: there is room for the thread, and what is passed is what `run` takes.
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

    /// Waits for its end.
    pub(super) fn join(self) {
        // SAFETY: it was not waited for before, and returns nothing.
        unsafe { libc::pthread_join(self.thread, ptr::null_mut()) };
    }
}

extern "C" fn run(acts: *mut c_void) -> *mut c_void {
    // SAFETY: as `start` passes it.
    let acts = unsafe { Box::from_raw(acts.cast::<Acts>()) };
    acts();
    ptr::null_mut()
}
