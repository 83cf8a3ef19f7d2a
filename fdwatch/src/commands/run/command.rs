//! The command's first process: held at its start until it is followed, and given the signals that
//! fdwatch gets.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    mem::{self, MaybeUninit},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::io::unix::AsyncFd;

use fdwatch_tracker::End;

use super::super::EXIT_ERROR;

/// Signals that are passed on. Those that stop and continue are left to do so.
const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGWINCH,
];

/// Of these, those that end the waiting for what the command's first process has left running.
const END_THE_WAITING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// `SI_KERNEL`, include/uapi/asm-generic/siginfo.h: from the terminal, which has sent it to all of the
/// foreground's process group.
const FROM_KERNEL: i32 = 0x80;

/// The first process.
pub(super) struct First {
    /// Its number.
    pub(super) pid: u32,
    state: State,
    /// Where signals are read that would have been delivered.
    signals: OwnedFd,
    waiting: Option<AsyncFd<OwnedFd>>,
    /// Whether to go on when it has ended.
    outlives: bool,
}

enum State {
    /// It waits for a byte, or the end, of the pipe before it runs the command.
    Held {
        go: PipeWriter,
        launch: JoinHandle<io::Result<Child>>,
    },
    Runs(Child),
    Ended(ExitStatus),
    /// The command could not be run.
    Failed(io::Error),
    /// Between two of these.
    Changing,
}

/// What came of the command.
pub(super) enum Outcome {
    /// It has ended.
    Ended(ExitStatus),
    /// It could not be run.
    Failed(io::Error),
}

impl First {
    /// Makes it. fdwatch must have no other threads and no signal handlers yet.
    pub(super) fn hold(words: &[OsString], outlives: bool) -> Result<Self> {
        let pipe = || io::pipe().context("cannot make a pipe");
        let ((until, go), (mut told, tells)) = (pipe()?, pipe()?);
        let (signals, mask) = block_signals().context("cannot listen for signals")?;
        let (program, arguments) = words.split_first().context("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments);
        let [until_fd, go_fd, tells_fd] = [until.as_raw_fd(), go.as_raw_fd(), tells.as_raw_fd()];
        // SAFETY: what is called may be called after a fork, and the descriptors are open in the child,
        // for they are closed here only after it has run the command or failed.
        unsafe {
            command.pre_exec(move || hold_child(until_fd, go_fd, tells_fd, &mask));
        }
        // Returns only when the command is run.
        let launch = thread::Builder::new()
            .name("launch".to_owned())
            .spawn(move || launch(&mut command, until, tells))
            .context("cannot start a thread")?;
        let mut pid = [0; 4];
        if told.read_exact(&mut pid).is_err() {
            let failed = join(launch)
                .err()
                .map_or_else(|| anyhow!("it has ended"), Into::into);
            return Err(failed.context("cannot make a process"));
        }
        Ok(Self {
            pid: u32::from_ne_bytes(pid),
            state: State::Held { go, launch },
            signals,
            waiting: None,
            outlives,
        })
    }

    /// Waits for its end.
    pub(super) fn outcome(mut self) -> io::Result<Outcome> {
        if let State::Runs(child) = &mut self.state {
            return child.wait().map(Outcome::Ended);
        }
        Ok(match mem::replace(&mut self.state, State::Changing) {
            State::Ended(status) => Outcome::Ended(status),
            State::Failed(error) => Outcome::Failed(error),
            State::Held { .. } | State::Runs(_) | State::Changing => {
                Outcome::Failed(io::ErrorKind::Interrupted.into())
            }
        })
    }

    /// Whether it is over, of what signals there were.
    fn look_at_signals(&mut self) -> Result<bool> {
        let mut is_over = false;
        while let Some(signal) = self.next_signal()? {
            let number = signal.ssi_signo.cast_signed();
            if number == libc::SIGCHLD {
                is_over |= self.has_ended()? && !self.outlives;
            } else if let State::Runs(child) = &self.state {
                if signal.ssi_code != FROM_KERNEL {
                    // SAFETY: the call takes numbers only; the child was not waited for.
                    unsafe { libc::kill(child.id().cast_signed(), number) };
                }
            } else {
                is_over |= END_THE_WAITING.contains(&number);
            }
        }
        Ok(is_over)
    }

    fn has_ended(&mut self) -> Result<bool> {
        if let State::Runs(child) = &mut self.state
            && let Some(status) = child.try_wait().context("cannot wait for the command")?
        {
            self.state = State::Ended(status);
        }
        Ok(!matches!(self.state, State::Runs(_)))
    }

    fn next_signal(&self) -> Result<Option<libc::signalfd_siginfo>> {
        let mut signal = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: there is room for as many bytes, and any of them are such a structure.
        let read =
            unsafe { libc::read(self.signals.as_raw_fd(), signal.as_mut_ptr().cast(), size) };
        if usize::try_from(read) == Ok(size) {
            // SAFETY: as above.
            return Ok(Some(unsafe { signal.assume_init() }));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error).context("cannot wait for signals"),
        }
    }
}

impl Drop for First {
    /// One that was held is let go without running the command.
    fn drop(&mut self) {
        if let State::Held { go, launch } = mem::replace(&mut self.state, State::Changing) {
            drop(go);
            if let Ok(mut child) = join(launch) {
                let _ = child.wait();
            }
        }
    }
}

impl End for First {
    fn begin(&mut self) -> Result<()> {
        let signals = self
            .signals
            .try_clone()
            .context("cannot wait for signals")?;
        // SAFETY: the descriptor is owned, and not closed before this is dropped.
        let signals = unsafe { AsyncFd::register(signals) };
        self.waiting = Some(signals.context("cannot wait for signals")?);
        Ok(())
    }

    /// Lets it go.
    fn followed(&mut self) -> Result<()> {
        let State::Held { mut go, launch } = mem::replace(&mut self.state, State::Changing) else {
            return Ok(());
        };
        // If no one reads it, it has ended, and that is found below.
        let _ = go.write_all(&[1]);
        drop(go);
        self.state = match join(launch) {
            Ok(child) => State::Runs(child),
            Err(error) => State::Failed(error),
        };
        Ok(())
    }

    async fn come(&mut self) -> Result<()> {
        loop {
            // What came before the first look is not told again.
            if self.look_at_signals()? || matches!(self.state, State::Failed(_)) {
                return Ok(());
            }
            let Some(waiting) = &self.waiting else {
                return Ok(());
            };
            let mut ready = waiting
                .readable()
                .await
                .context("cannot wait for signals")?;
            ready.clear_ready();
        }
    }
}

/// In the child: tells its number, and waits until it may go on.
fn hold_child(until: i32, go: i32, tells: i32, mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: all of these may be called after a fork, whatever other threads did, and take numbers or
    // pointers to what is there.
    unsafe {
        // The end is to be seen when fdwatch's ends.
        libc::close(go);
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
        let pid = libc::getpid().to_ne_bytes();
        if libc::write(tells, pid.as_ptr().cast(), pid.len()) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::close(tells);
        let mut byte = 0_u8;
        loop {
            match libc::read(until, (&raw mut byte).cast(), 1) {
                1 => return Ok(()),
                // No one is there to be told of it.
                0 => libc::_exit(EXIT_ERROR.into()),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// The pipe's ends are the child's, and to be open until it has them.
fn launch(command: &mut Command, until: PipeReader, tells: PipeWriter) -> io::Result<Child> {
    let child = command.spawn();
    drop((until, tells));
    child
}

fn join(launch: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    let joined = launch.join();
    joined.unwrap_or_else(|_| Err(io::Error::other("the thread that was to run it panicked")))
}

/// Has signals be read instead of delivered. What was blocked before is what is to be so in the
/// command.
fn block_signals() -> io::Result<(OwnedFd, libc::sigset_t)> {
    // SAFETY: both sets are made before they are used, and there is room for them.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        let fd = libc::signalfd(-1, set.as_ptr(), flags);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(fd), before.assume_init()))
    }
}

/// The exit code by which shells tell how a command has ended.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code();
    let code = code.or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok())
        .unwrap_or(u8::MAX)
}
