//! Guests: processes that get their tables in every possible way, and stay until the next phase or exit at
//! once.

use std::{io::Write as _, mem::MaybeUninit, ptr, thread::yield_now};

use super::{GUEST, actor::Actor, calls, none, random::Random, threads::Thread};
use crate::truth::share_table;

/// A guest that stays.
pub(super) struct Guest {
    pid: i32,
}

impl Guest {
    /// Ends it.
    pub(super) fn end(self) {
        // SAFETY: it is a child that was not waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
        }
        wait_for(self.pid);
    }
}

/// Makes a guest that stays, by a random method, unless there are enough.
pub(super) fn make(actor: &mut Actor) {
    let Some(place) = actor.guests.iter().position(Option::is_none) else {
        return;
    };
    let number = actor.shared.next_guest();
    let method = METHODS[actor.random.below(METHODS.len() as u32) as usize];
    actor.called();
    let pid = method(actor, number);
    if pid < 0 {
        return;
    }
    if wait_until_idle(actor, pid, number) {
        actor.guests[place] = Some(Guest { pid });
    }
}

/// Waits until the guest is idle, and returns true. Returns false if it exits, for example because no descriptor was
/// free to load a library.
fn wait_until_idle(actor: &Actor, pid: i32, number: u32) -> bool {
    while !actor.shared.is_guest_idle(number) {
        // SAFETY: the call takes no pointer.
        if unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) } == pid {
            return false;
        }
    }
    true
}

/// Starts a guest and returns its pid.
type Method = fn(&mut Actor, u32) -> i32;

const METHODS: &[Method] = &[
    |actor, number| fork(actor, |guest| guest.stay_after_calls(number)),
    |actor, number| {
        clone(actor, libc::CLONE_FILES, |guest| {
            guest.stay_after_calls(number)
        })
    },
    |actor, number| {
        clone(actor, libc::CLONE_FILES, |guest| {
            guest.some_calls();
            unshare();
            guest.stay_after_calls(number)
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            calls::close_range_unshared(guest);
            guest.stay_after_calls(number)
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            guest.some_calls();
            guest.exec(number)
        })
    },
    |actor, number| clone(actor, libc::CLONE_VFORK, |guest| guest.exec(number)),
    |actor, number| clone(actor, libc::CLONE_FILES, |guest| guest.exec(number)),
    spawn,
    clone_with_pidfd,
    clone3_with_pidfd,
    |actor, number| {
        fork(actor, |guest| {
            let other = guest.with_thread(Actor::some_calls);
            guest.some_calls();
            other.join();
            guest.stay(number)
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            // It stays, so that its table can be compared.
            let (done, is_done) = std::sync::mpsc::channel();
            guest.with_thread(move |other| {
                other.some_calls();
                unshare();
                other.some_calls();
                done.send(()).unwrap();
                pause();
            });
            guest.some_calls();
            is_done.recv().unwrap();
            guest.stay(number)
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            let (go_on, may_go_on) = std::sync::mpsc::channel();
            let (done, is_done) = std::sync::mpsc::channel();
            guest.with_thread(move |other| {
                other.some_calls();
                may_go_on.recv().unwrap();
                other.some_calls();
                is_done.recv().unwrap();
                other.stay(number)
            });
            guest.some_calls();
            unshare();
            go_on.send(()).unwrap();
            guest.some_calls();
            done.send(()).unwrap();
            pause();
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            guest.with_thread(move |other| {
                other.some_calls();
                while shares_table_of_leader() {
                    yield_now();
                }
                other.stay(number)
            });
            guest.some_calls();
            // Only the calling thread exits.
            // SAFETY: the thread holds nothing that others need.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("it has ended");
        })
    },
    |actor, number| {
        fork(actor, |guest| {
            guest.with_thread(move |other| {
                other.some_calls();
                other.exec(number)
            });
            guest.some_calls();
            pause();
        })
    },
];

/// Makes a guest that exits at once, by a random method.
pub(super) fn make_short_lived(actor: &mut Actor) {
    actor.called();
    let pid = match actor.random.below(6) {
        0 => fork(actor, |guest| {
            guest.some_calls();
            exit()
        }),
        1 => fork(actor, |guest| {
            guest.some_calls();
            // SAFETY: _exit has no requirements.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            pause();
        }),
        2 => fork(actor, |guest| {
            let child = fork(guest, |guest| {
                guest.some_calls();
                exit()
            });
            guest.some_calls();
            wait_for(child);
            exit()
        }),
        3 => clone(actor, libc::CLONE_FILES, |guest| {
            guest.some_calls();
            exit()
        }),
        4 => clone(actor, libc::CLONE_VFORK, |guest| {
            guest.some_calls();
            exit()
        }),
        _ => {
            // While another thread is in a call.
            let number = actor.shared.next_guest();
            let pid = fork(actor, |guest| {
                guest.with_thread(|other| {
                    loop {
                        other.some_calls();
                    }
                });
                guest.stay_after_calls(number)
            });
            if pid > 0 && wait_until_idle(actor, pid, number) {
                Guest { pid }.end();
            }
            return;
        }
    };
    if pid > 0 {
        wait_for(pid);
    }
}

impl Actor {
    fn stay_after_calls(&mut self, number: u32) -> ! {
        self.some_calls();
        self.stay(number);
    }

    /// Starts another thread of the guest.
    fn with_thread(&mut self, acts: impl FnOnce(&mut Self) + Send + 'static) -> Thread {
        let (shared, random) = (self.shared, Random::new(self.random.next()));
        Thread::start(move || acts(&mut Self::new(shared, random)))
    }

    /// Executes this program. Must not allocate: other threads may have held the allocator's locks at the
    /// fork.
    fn exec(&mut self, number: u32) -> ! {
        // Closed, because the program's output could go to any file and fail.
        // SAFETY: no code relies on the descriptor.
        unsafe { libc::close(1) };
        let places = &self.shared.places;
        let mut variable = [0; 64];
        // The last byte stays zero.
        let mut rest = &mut variable[..63];
        write!(rest, "{GUEST}={number}").unwrap();
        let environment = [
            places.shared.as_ptr(),
            variable.as_ptr().cast(),
            ptr::null(),
        ];
        // SAFETY: all pointees live until the call returns, which it does only if it fails.
        unsafe {
            libc::execve(
                places.program.as_ptr(),
                places.arguments().as_ptr(),
                environment.as_ptr(),
            );
        }
        exit();
    }
}

/// Forks a child with its own memory and one thread.
fn fork(actor: &mut Actor, guest: impl FnOnce(&mut Actor)) -> i32 {
    // SAFETY: the child may do what its parent may: the C library handles the allocator's locks on fork, and
    // no other locks are needed.
    child(actor, || unsafe { libc::fork() }.into(), guest)
}

/// Clones with flags. The child must not allocate, because the C library does not know about the fork.
fn clone(actor: &mut Actor, flags: i32, guest: impl FnOnce(&mut Actor)) -> i32 {
    let flags = flags | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is a fork.
    let clone = || unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    child(actor, clone, guest)
}

fn clone_with_pidfd(actor: &mut Actor, number: u32) -> i32 {
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd = -1;
    // SAFETY: without CLONE_VM this is a fork; there is room for the descriptor.
    let clone = || unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    let pid = child(actor, clone, |guest| guest.stay_after_calls(number));
    actor.made(pidfd);
    pid
}

fn clone3_with_pidfd(actor: &mut Actor, number: u32) -> i32 {
    let mut pidfd = -1i32;
    // `struct clone_args`, include/uapi/linux/sched.h: flags, pidfd, .., exit_signal.
    let arguments = [
        libc::CLONE_PIDFD as u64,
        (&raw mut pidfd) as u64,
        0,
        0,
        libc::SIGCHLD as u64,
        0,
        0,
        0,
    ];
    let len = size_of_val(&arguments);
    // SAFETY: without CLONE_VM this is a fork; there is room for the descriptor.
    let clone = || unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, len) };
    let pid = child(actor, clone, |guest| guest.stay_after_calls(number));
    actor.made(pidfd);
    pid
}

/// Calls `make`, which returns in the child as fork does.
fn child(actor: &mut Actor, make: impl FnOnce() -> i64, guest: impl FnOnce(&mut Actor)) -> i32 {
    let mut child = Actor::new(actor.shared, Random::new(actor.random.next()));
    match make() {
        0 => {
            end_with_parent();
            guest(&mut child);
            unreachable!("a guest stays or ends")
        }
        pid => pid as i32,
    }
}

/// Spawns as the C library does, with CLONE_VM and CLONE_VFORK.
fn spawn(actor: &mut Actor, number: u32) -> i32 {
    let places = &actor.shared.places;
    let variable = format!("{GUEST}={number}\0");
    let environment = [
        places.shared.as_ptr().cast_mut(),
        variable.as_ptr().cast_mut().cast(),
        none(),
    ];
    let mut actions = MaybeUninit::uninit();
    let mut pid = -1;
    // SAFETY: all pointees live until the calls return.
    unsafe {
        libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
        let mut actions = actions.assume_init();
        let actions = &raw mut actions;
        libc::posix_spawn_file_actions_addopen(
            actions,
            actor.random.below(50) as i32,
            places.files[1].as_ptr(),
            libc::O_RDWR,
            0,
        );
        let (from, to) = (actor.random.below(50) as i32, actor.random.below(50) as i32);
        libc::posix_spawn_file_actions_adddup2(actions, from, to);
        libc::posix_spawn_file_actions_addclose(actions, actor.random.below(50) as i32);
        // As before any exec: the program's output could go to any file and block.
        libc::posix_spawn_file_actions_addclose(actions, 1);
        let failed = libc::posix_spawn(
            &raw mut pid,
            places.program.as_ptr(),
            actions,
            ptr::null(),
            places.arguments().as_ptr().cast(),
            environment.as_ptr(),
        );
        libc::posix_spawn_file_actions_destroy(actions);
        if failed == 0 { pid } else { -1 }
    }
}

fn unshare() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::unshare(libc::CLONE_FILES) };
}

/// Returns whether the thread's leader still has its table.
fn shares_table_of_leader() -> bool {
    // SAFETY: the calls have no requirements.
    unsafe { share_table(libc::gettid() as u32, libc::getpid() as u32) }
}

/// Makes the process exit together with the thread that created it.
pub(super) fn end_with_parent() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn pause() -> ! {
    loop {
        // SAFETY: the call has no requirements.
        unsafe { libc::pause() };
    }
}

fn exit() -> ! {
    // SAFETY: the call has no requirements.
    unsafe { libc::_exit(0) }
}

fn wait_for(pid: i32) {
    // SAFETY: the call takes no pointer.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}
