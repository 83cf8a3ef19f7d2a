//! Random calls that open, move, change and close descriptors in several processes and threads at once, in
//! phases with pauses in between.
//!
//! The test starts one process, the root. It starts some processes, each with a thread that supervises the
//! others, the *actors*. An actor makes the random calls of a phase and rests until the next. Some calls
//! start *guests*: processes that get their table in any possible way, make a few calls, and stay unchanged
//! until the next phase.
//!
//! Any thread may close any descriptor. The processes therefore do not depend on descriptors, and communicate
//! through shared memory.

mod actor;
mod calls;
mod guests;
mod random;
mod shared;
mod threads;
mod waiting;

use std::{
    env,
    ffi::{CString, c_char},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Child, Stdio},
    ptr, thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use self::{actor::Actor, random::Random, shared::Shared};
use crate::watching::{again, arguments};

/// Environment variable with the path of the shared memory.
const SHARED: &str = "FDWATCH_TEST_SHARED";

/// Environment variable with a guest's number, if it executes this program.
const GUEST: &str = "FDWATCH_TEST_GUEST";

/// Processes with actors.
const PROCESSES: u64 = 4;

/// Number of calls of each actor per phase.
const CALLS_IN_PHASE: u32 = 250;

/// Timeout of a phase; long enough for emulated machines.
const LIMIT: Duration = Duration::from_secs(120);

/// A running generator.
pub(crate) struct Generator {
    root: Child,
    shared: &'static Shared,
    /// Directory of its files, removed last.
    _directory: TempDir,
}

impl Generator {
    /// Starts a generator with four processes of this many actors each.
    pub(crate) fn start(seed: u64, threads: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shared");
        let shared = Shared::create(&path, seed, threads, CALLS_IN_PHASE);
        let mut command = again("generator::root");
        command.env(SHARED, &path).stderr(Stdio::null());
        Self {
            root: command.spawn().unwrap(),
            shared,
            _directory: directory,
        }
    }

    /// Returns the process that is the ancestor of all others.
    pub(crate) fn pid(&self) -> u32 {
        self.root.id()
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls()
    }

    /// Runs a phase, repeating `meanwhile` until all actors rest.
    pub(crate) fn run_phase(&mut self, mut meanwhile: impl FnMut()) {
        let actors = PROCESSES as u32 * self.shared.threads();
        let deadline = Instant::now() + LIMIT;
        self.shared.begin_phase();
        while self.shared.resting() < actors {
            assert!(
                Instant::now() < deadline,
                "{} of {actors} rest:\n{}",
                self.shared.resting(),
                waiting::blocking_calls(self.pid())
            );
            assert_eq!(
                self.root.try_wait().unwrap(),
                None,
                "the root process exited"
            );
            meanwhile();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // All its descendants end with it.
        let _ = self.root.kill();
        let _ = self.root.wait();
    }
}

/// Not a test: the root process.
#[test]
#[ignore = "run by another test as a child process"]
fn root() {
    let Some(path) = env::var_os(SHARED) else {
        return;
    };
    let shared = Shared::open(Path::new(&path));
    // SAFETY: all pointers are null.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        for process in 0..PROCESSES {
            if libc::fork() == 0 {
                run_actors(shared, process);
            }
        }
        loop {
            // Reaps guests of processes that exited before them.
            let mut status = 0;
            if libc::waitpid(-1, &raw mut status, 0) < 0 {
                return;
            }
        }
    }
}

/// Runs a process with actors: starts them, and replaces each that ends.
///
/// # Safety
///
/// The process must have one thread.
unsafe fn run_actors(shared: &'static Shared, process: u64) -> ! {
    // SAFETY: all pointees live until the call returns.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // One table exceeds the range of a single exec record.
        let most = if process == 0 { 6000 } else { 300 };
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    let (ended, one_ended) = std::sync::mpsc::channel();
    let start = |random: Random, phase: u32| {
        let ended = ended.clone();
        thread::spawn(move || {
            let mut actor = Actor::new(shared, random);
            let phase = actor.act(phase);
            ended.send((actor.random, phase)).unwrap();
        });
    };
    for thread in 0..shared.threads() {
        let actor = process << 32 | (u64::from(thread) + 1);
        start(Random::new(shared.seed() ^ actor), 0);
    }
    for (random, phase) in one_ended {
        start(random, phase);
    }
    unreachable!("this has a sender itself");
}

/// Not a test: a guest that executes this program.
#[test]
#[ignore = "run by another test as a child process"]
fn guest() {
    let (Some(path), Some(number)) = (env::var_os(SHARED), env::var_os(GUEST)) else {
        return;
    };
    // posix_spawn starts one without this variable.
    guests::end_with_parent();
    let number: u32 = number.to_str().unwrap().parse().unwrap();
    let shared = Shared::open(Path::new(&path));
    let mut actor = Actor::new(shared, Random::new(shared.seed() ^ u64::from(number)));
    actor.some_calls();
    actor.stay(number);
}

/// Names for the random calls, allocated before the first fork.
struct Places {
    files: [CString; 8],
    directory: CString,
    /// This program, and its arguments as a guest.
    program: CString,
    arguments: [CString; 6],
    /// [`SHARED`], as an environment entry.
    shared: CString,
}

impl Places {
    fn beside(shared: &Path) -> Self {
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let directory = shared.parent().unwrap();
        let [a, b, c, d, e] = arguments("generator::guest").map(|it| CString::new(it).unwrap());
        Self {
            files: [0, 1, 2, 3, 4, 5, 6, 7].map(|i| name(&directory.join(format!("f{i}")))),
            directory: name(directory),
            program: name(&env::current_exe().unwrap()),
            arguments: [c"generator".into(), a, b, c, d, e],
            shared: CString::new(format!("{SHARED}={}", shared.display())).unwrap(),
        }
    }

    /// Returns the guest's arguments, for exec.
    fn arguments(&self) -> [*const c_char; 7] {
        let mut pointers = [ptr::null(); 7];
        for (pointer, argument) in pointers.iter_mut().zip(&self.arguments) {
            *pointer = argument.as_ptr();
        }
        pointers
    }
}

/// Returns a null pointer, for unused arguments.
const fn none<T>() -> *mut T {
    ptr::null_mut()
}
