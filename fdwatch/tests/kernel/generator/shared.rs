//! Memory shared by the test and all processes of the generator, with the points of rest.

use std::{
    fs::OpenOptions,
    os::fd::AsRawFd as _,
    path::Path,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use super::Places;

/// Number of guests that can be awaited at the same time.
const GUESTS: usize = 1024;

#[repr(C)]
struct Layout {
    seed: AtomicU64,
    /// Total number of calls.
    calls: AtomicU64,
    /// Actors in each process.
    threads: AtomicU32,
    /// Number of the phase; a futex.
    phase: AtomicU32,
    /// Calls of each actor in a phase.
    calls_in_phase: AtomicU32,
    /// Actors that have finished the phase; a futex.
    resting: AtomicU32,
    /// Total number of guests.
    guests: AtomicU32,
    /// By entry, the last guest that finished; a futex.
    staying: [AtomicU32; GUESTS],
}

/// The shared memory.
pub(crate) struct Shared {
    layout: &'static Layout,
    pub(super) places: Places,
}

impl Shared {
    /// Creates it in a new file.
    pub(crate) fn create(
        path: &Path,
        seed: u64,
        threads: u32,
        calls_in_phase: u32,
    ) -> &'static Self {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        file.set_len(size_of::<Layout>() as u64).unwrap();
        let shared = Self::open(path);
        shared.layout.seed.store(seed, SeqCst);
        shared.layout.threads.store(threads, SeqCst);
        shared.layout.calls_in_phase.store(calls_in_phase, SeqCst);
        shared
    }

    /// Opens the memory that another process created.
    pub(crate) fn open(path: &Path) -> &'static Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        // SAFETY: the kernel chooses the address. It stays mapped, and any bytes are a valid `Layout`, whose
        // fields are all atomic.
        let layout = unsafe {
            let memory = libc::mmap(
                ptr::null_mut(),
                size_of::<Layout>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(memory, libc::MAP_FAILED);
            &*memory.cast::<Layout>()
        };
        // Lives as long as the process, which opens it once.
        Box::leak(Box::new(Self {
            layout,
            places: Places::beside(path),
        }))
    }

    pub(super) fn seed(&self) -> u64 {
        self.layout.seed.load(SeqCst)
    }

    pub(super) fn threads(&self) -> u32 {
        self.layout.threads.load(SeqCst)
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.layout.calls.load(SeqCst)
    }

    pub(super) fn count_calls(&self, calls: u64) {
        self.layout.calls.fetch_add(calls, SeqCst);
    }

    pub(super) fn calls_in_phase(&self) -> u32 {
        self.layout.calls_in_phase.load(SeqCst)
    }

    /// Starts a phase.
    pub(crate) fn begin_phase(&self) {
        self.layout.resting.store(0, SeqCst);
        self.layout.phase.fetch_add(1, SeqCst);
        wake(&self.layout.phase);
    }

    /// Returns how many actors have finished the phase.
    pub(crate) fn resting(&self) -> u32 {
        self.layout.resting.load(SeqCst)
    }

    /// Reports that an actor has finished the phase.
    pub(super) fn rest(&self) {
        self.layout.resting.fetch_add(1, SeqCst);
    }

    pub(super) fn phase(&self) -> u32 {
        self.layout.phase.load(SeqCst)
    }

    /// Waits for the phase after `phase`.
    pub(super) fn wait_for_phase_after(&self, phase: u32) -> u32 {
        while self.phase() == phase {
            wait(&self.layout.phase, phase, None);
        }
        self.phase()
    }

    /// Returns a number for a new guest.
    pub(super) fn next_guest(&self) -> u32 {
        self.layout.guests.fetch_add(1, SeqCst) + 1
    }

    /// Reports that a guest has made its calls.
    pub(super) fn set_guest_idle(&self, guest: u32) {
        let place = self.place(guest);
        place.store(guest, SeqCst);
        wake(place);
    }

    /// Waits briefly for a guest; returns whether it has made its calls.
    pub(super) fn is_guest_idle(&self, guest: u32) -> bool {
        let place = self.place(guest);
        let before = place.load(SeqCst);
        if before != guest {
            wait(place, before, Some(Duration::from_millis(2)));
        }
        place.load(SeqCst) == guest
    }

    fn place(&self, guest: u32) -> &AtomicU32 {
        &self.layout.staying[guest as usize % GUESTS]
    }
}

fn wait(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as _,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            limit,
        )
    };
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word lives until the call returns.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
