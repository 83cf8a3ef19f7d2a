//! Random calls that make, move, change and end descriptors, in several processes and threads at
//! once, with points of rest at which nothing moves.
//!
//! One process, the root, is run by the test. It makes some processes, each of which has a thread
//! to look after the others, the *actors*. An actor makes random calls until it has made as many as
//! a phase takes, and rests until the next. Among what it does is to make *guests*: processes that
//! do a few calls themselves, in all ways a process can come to its table, and then stay as they
//! are until the next phase.
//!
//! No descriptor is left out: any thread may close any number, whoever made it. Hence nothing here
//! needs one; what is told from process to process is in shared memory.

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

/// Where the shared memory is.
const SHARED: &str = "FDWATCH_TEST_SHARED";

/// In a guest that runs this program: its number.
const GUEST: &str = "FDWATCH_TEST_GUEST";

/// Processes with actors.
const PROCESSES: u64 = 4;

/// Calls of each actor between two points of rest.
const CALLS_IN_PHASE: u32 = 250;

/// Within this time all must have come to rest, even where a kernel is emulated.
const LIMIT: Duration = Duration::from_secs(120);

/// The generator, as the test has it.
pub(crate) struct Generator {
    root: Child,
    shared: &'static Shared,
    /// Where the files are. Removed last.
    _directory: TempDir,
}

impl Generator {
    /// Starts it: with four processes of so many actors each.
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

    /// The process that all others come from.
    pub(crate) fn pid(&self) -> u32 {
        self.root.id()
    }

    /// How many calls were made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls()
    }

    /// Lets all make their calls, with `meanwhile` again and again, until they rest.
    pub(crate) fn run_phase(&mut self, mut meanwhile: impl FnMut()) {
        let actors = PROCESSES as u32 * self.shared.threads();
        let deadline = Instant::now() + LIMIT;
        self.shared.begin_phase();
        while self.shared.resting() < actors {
            assert!(
                Instant::now() < deadline,
                "{} of {actors} rest:\n{}",
                self.shared.resting(),
                waiting::what_all_wait_for(self.pid())
            );
            assert_eq!(self.root.try_wait().unwrap(), None, "the root has ended");
            meanwhile();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // All that it has made ends with it.
        let _ = self.root.kill();
        let _ = self.root.wait();
    }
}

/// Not a test: the root.
#[test]
#[ignore = "is run by another"]
fn root() {
    let Some(path) = env::var_os(SHARED) else {
        return;
    };
    let shared = Shared::open(Path::new(&path));
    // SAFETY: no pointers are passed but null.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        for process in 0..PROCESSES {
            if libc::fork() == 0 {
                run_actors(shared, process);
            }
        }
        loop {
            // Those of a guest that has ended before them.
            let mut status = 0;
            if libc::waitpid(-1, &raw mut status, 0) < 0 {
                return;
            }
        }
    }
}

/// A process with actors: starts them, and another for each that ends.
///
/// # Safety
///
/// It has one thread.
unsafe fn run_actors(shared: &'static Shared, process: u64) -> ! {
    // SAFETY: all pointers live until the call returns.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // One has numbers beyond what is told of exec in one record.
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

/// Not a test: a guest that runs this program.
#[test]
#[ignore = "is run by another"]
fn guest() {
    let (Some(path), Some(number)) = (env::var_os(SHARED), env::var_os(GUEST)) else {
        return;
    };
    // One that posix_spawn has made has it not.
    guests::end_with_parent();
    let number: u32 = number.to_str().unwrap().parse().unwrap();
    let shared = Shared::open(Path::new(&path));
    let mut actor = Actor::new(shared, Random::new(shared.seed() ^ u64::from(number)));
    actor.some_calls();
    actor.stay(number);
}

/// What the random calls need by name. Made once, before any process is.
struct Places {
    files: [CString; 8],
    directory: CString,
    /// This program, and its arguments as a guest.
    program: CString,
    arguments: [CString; 6],
    /// [`SHARED`], as in an environment.
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

    /// The guest's arguments, as exec takes them.
    fn arguments(&self) -> [*const c_char; 7] {
        let mut pointers = [ptr::null(); 7];
        for (pointer, argument) in pointers.iter_mut().zip(&self.arguments) {
            *pointer = argument.as_ptr();
        }
        pointers
    }
}

/// A null pointer, for what is not asked for.
const fn none<T>() -> *mut T {
    ptr::null_mut()
}
