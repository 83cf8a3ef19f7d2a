//! Threads that make random calls.

use super::{calls, guests::Guest, random::Random, shared::Shared};

/// Exclusive upper limit of most descriptor numbers.
const COMMON_FDS: u32 = 96;

/// Exclusive upper limit of all other numbers.
const ALL_FDS: u32 = 5000;

/// A thread that makes random calls.
pub(super) struct Actor {
    pub(super) shared: &'static Shared,
    pub(super) random: Random,
    /// The descriptor that it created last.
    made: [i32; 8],
    next: usize,
    calls: u32,
    pub(super) guests: [Option<Guest>; 2],
}

impl Actor {
    pub(super) const fn new(shared: &'static Shared, random: Random) -> Self {
        Self {
            shared,
            random,
            made: [0; 8],
            next: 0,
            calls: 0,
            guests: [const { None }; 2],
        }
    }

    /// Runs phase after phase, starting after `phase`, until another actor must replace it. Returns the phase
    /// for that one.
    pub(super) fn act(&mut self, mut phase: u32) -> u32 {
        loop {
            let next = self.shared.wait_for_phase_after(phase);
            self.end_guests();
            if self.random.one_in(8) {
                return phase;
            }
            phase = next;
            while self.calls < self.shared.calls_in_phase() {
                calls::random_call(self);
            }
            self.count();
            self.shared.rest();
        }
    }

    fn end_guests(&mut self) {
        for guest in &mut self.guests {
            if let Some(guest) = guest.take() {
                guest.end();
            }
        }
    }

    fn count(&mut self) {
        self.shared.count_calls(self.calls.into());
        self.calls = 0;
    }

    /// Counts a call.
    pub(super) const fn called(&mut self) {
        self.calls += 1;
    }

    /// Counts a call that returned this descriptor.
    pub(super) const fn made(&mut self, fd: i32) {
        self.called();
        if fd >= 0 {
            self.made[self.next % self.made.len()] = fd;
            self.next += 1;
        }
    }

    /// Returns a descriptor number, mostly of an open one.
    pub(super) const fn some_fd(&mut self) -> i32 {
        match self.random.below(64) {
            0 => self.random.below(ALL_FDS) as i32,
            1..32 => self.random.below(COMMON_FDS) as i32,
            _ => self.made[self.random.below(8) as usize],
        }
    }

    /// Makes a few calls.
    pub(super) fn some_calls(&mut self) {
        for _ in 0..self.random.below(20) {
            calls::random_simple_call(self);
        }
        self.count();
    }

    /// Reports that it has made its calls, and sleeps.
    pub(super) fn stay(&self, guest: u32) -> ! {
        self.shared.set_guest_idle(guest);
        loop {
            // SAFETY: pause has no requirements.
            unsafe { libc::pause() };
        }
    }
}
