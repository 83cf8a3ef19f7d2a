//! A thread that makes random calls.

use super::{calls, guests::Guest, random::Random, shared::Shared};

/// Numbers that calls are about, mostly.
const USUAL: u32 = 96;

/// And the end of all others.
const UNUSUAL: u32 = 5000;

/// A thread that makes random calls.
pub(super) struct Actor {
    pub(super) shared: &'static Shared,
    pub(super) random: Random,
    /// What it made last.
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

    /// Acts, phase after phase, from the one after `phase` on, until another is to take its place:
    /// from which phase on.
    pub(super) fn act(&mut self, mut phase: u32) -> u32 {
        loop {
            let next = self.shared.wait_for_phase_after(phase);
            self.send_guests_away();
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

    fn send_guests_away(&mut self) {
        for guest in &mut self.guests {
            if let Some(guest) = guest.take() {
                guest.send_away();
            }
        }
    }

    fn count(&mut self) {
        self.shared.count_calls(self.calls.into());
        self.calls = 0;
    }

    /// A call is made.
    pub(super) const fn called(&mut self) {
        self.calls += 1;
    }

    /// A call is made, and gave this descriptor.
    pub(super) const fn made(&mut self, fd: i32) {
        self.called();
        if fd >= 0 {
            self.made[self.next % self.made.len()] = fd;
            self.next += 1;
        }
    }

    /// A number: more often than not of a descriptor that is open.
    pub(super) const fn some_fd(&mut self) -> i32 {
        match self.random.below(64) {
            0 => self.random.below(UNUSUAL) as i32,
            1..32 => self.random.below(USUAL) as i32,
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

    /// Tells that it has done what it does, and does nothing more.
    pub(super) fn stay(&self, guest: u32) -> ! {
        self.shared.guest_stays(guest);
        loop {
            // SAFETY: the call has no requirements.
            unsafe { libc::pause() };
        }
    }
}
