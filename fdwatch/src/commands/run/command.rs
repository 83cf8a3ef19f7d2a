//! The command's first process. It waits before exec until fdwatch follows events, and receives the signals
//! that fdwatch receives.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    mem::{self, MaybeUninit},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{self, Command, ExitStatus},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::io::unix::AsyncFd;

use fdwatch_tracker::StopCondition;

use crate::commands::output::EXIT_ERROR;

/// Signals that are forwarded. Signals that stop or continue a process affect fdwatch itself.
const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGWINCH,
];

/// Signals that end the wait for descendants, once the first process has exited.
const END_WAIT: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// `SI_KERNEL` (include/uapi/asm-generic/siginfo.h): sent by the terminal, to the whole foreground process
/// group.
const FROM_KERNEL: i32 = 0x80;

/// First process of the command.
pub(super) struct Child {
    pub(super) pid: u32,
    state: State,
    /// The signalfd that receives the blocked signals.
    signals: OwnedFd,
    /// The same, registered in the runtime.
    readable: Option<AsyncFd<OwnedFd>>,
    /// Whether to wait for descendants after it has exited.
    waits: bool,
}

enum State {
    /// The process waits for a byte or the end of the pipe before exec.
    Held {
        go: PipeWriter,
        launch: JoinHandle<io::Result<process::Child>>,
    },
    Running(process::Child),
    Exited(ExitStatus),
    /// The command could not be executed.
    Failed(io::Error),
    /// Placeholder during a transition.
    Changing,
}

/// Outcome of the command.
pub(super) enum Outcome {
    Exited(ExitStatus),
    /// The command could not be executed.
    Failed(io::Error),
}

impl Child {
    /// Forks the process, which waits before exec. fdwatch must have no other threads and no signal handlers yet.
    pub(super) fn hold(words: &[OsString], waits: bool) -> Result<Self> {
        let pipe = || io::pipe().context("cannot create a pipe");
        let ((until, go), (mut pid_reader, pid_writer)) = (pipe()?, pipe()?);
        let (signals, mask) = block_signals().context("cannot listen for signals")?;
        let (program, arguments) = words.split_first().context("no command given")?;
        let mut command = Command::new(program);
        command.args(arguments);
        let [until_fd, go_fd, pid_fd] = [until.as_raw_fd(), go.as_raw_fd(), pid_writer.as_raw_fd()];
        // SAFETY: the closure calls only async-signal-safe functions. The descriptors are open in the
        // child: the parent closes them only after exec succeeded or failed.
        unsafe {
            command.pre_exec(move || hold_child(until_fd, go_fd, pid_fd, &mask));
        }
        // `spawn` returns only after exec, so it runs in a thread of its own.
        let launch = thread::Builder::new()
            .name("launch".to_owned())
            .spawn(move || launch(&mut command, until, pid_writer))
            .context("cannot start a thread")?;
        let mut pid = [0; 4];
        if pid_reader.read_exact(&mut pid).is_err() {
            let failed = join(launch)
                .err()
                .map_or_else(|| anyhow!("the child exited early"), Into::into);
            return Err(failed.context("cannot create a process"));
        }
        Ok(Self {
            pid: u32::from_ne_bytes(pid),
            state: State::Held { go, launch },
            signals,
            readable: None,
            waits,
        })
    }

    /// Waits until the process exits.
    pub(super) fn outcome(mut self) -> io::Result<Outcome> {
        if let State::Running(child) = &mut self.state {
            return child.wait().map(Outcome::Exited);
        }
        Ok(match mem::replace(&mut self.state, State::Changing) {
            State::Exited(status) => Outcome::Exited(status),
            State::Failed(error) => Outcome::Failed(error),
            State::Held { .. } | State::Running(_) | State::Changing => {
                Outcome::Failed(io::ErrorKind::Interrupted.into())
            }
        })
    }

    /// Handles the signals received so far. Returns whether to stop following.
    fn handle_signals(&mut self) -> Result<bool> {
        let mut stops = false;
        while let Some(signal) = self.next_signal()? {
            let number = signal.ssi_signo.cast_signed();
            if number == libc::SIGCHLD {
                stops |= self.has_exited()? && !self.waits;
            } else if let State::Running(child) = &self.state {
                if signal.ssi_code != FROM_KERNEL {
                    // SAFETY: the call takes numbers only. The child was not reaped, so its PID is not reused.
                    unsafe { libc::kill(child.id().cast_signed(), number) };
                }
            } else {
                stops |= END_WAIT.contains(&number);
            }
        }
        Ok(stops)
    }

    fn has_exited(&mut self) -> Result<bool> {
        if let State::Running(child) = &mut self.state
            && let Some(status) = child.try_wait().context("cannot wait for the command")?
        {
            self.state = State::Exited(status);
        }
        Ok(!matches!(self.state, State::Running(_)))
    }

    fn next_signal(&self) -> Result<Option<libc::signalfd_siginfo>> {
        let mut signal = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has `size` bytes, and every bit pattern is a valid `signalfd_siginfo`.
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

impl Drop for Child {
    /// Ends a waiting process without running the command.
    fn drop(&mut self) {
        if let State::Held { go, launch } = mem::replace(&mut self.state, State::Changing) {
            drop(go);
            if let Ok(mut child) = join(launch) {
                let _ = child.wait();
            }
        }
    }
}

impl StopCondition for Child {
    fn begin(&mut self) -> Result<()> {
        let signals = self
            .signals
            .try_clone()
            .context("cannot wait for signals")?;
        // SAFETY: the `AsyncFd` owns the descriptor, so it stays open while registered.
        let signals = unsafe { AsyncFd::register(signals) };
        self.readable = Some(signals.context("cannot wait for signals")?);
        Ok(())
    }

    /// Releases the process, which then runs the command.
    fn followed(&mut self) -> Result<()> {
        let State::Held { mut go, launch } = mem::replace(&mut self.state, State::Changing) else {
            return Ok(());
        };
        // A failed write means that the process exited, which `join` reports.
        let _ = go.write_all(&[1]);
        drop(go);
        self.state = match join(launch) {
            Ok(child) => State::Running(child),
            Err(error) => State::Failed(error),
        };
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        loop {
            // Signals before the first wait raise no readiness, so read before waiting.
            if self.handle_signals()? || matches!(self.state, State::Failed(_)) {
                return Ok(());
            }
            let Some(readable) = &self.readable else {
                return Ok(());
            };
            let mut ready = readable
                .readable()
                .await
                .context("cannot wait for signals")?;
            ready.clear_ready();
        }
    }
}

/// Runs in the child: writes its PID, and waits until it is released.
fn hold_child(until: i32, go: i32, pid_writer: i32, mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: all calls are async-signal-safe, and take numbers or pointers to live variables.
    unsafe {
        // Otherwise the pipe would not end when fdwatch exits.
        libc::close(go);
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
        let pid = libc::getpid().to_ne_bytes();
        if libc::write(pid_writer, pid.as_ptr().cast(), pid.len()) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::close(pid_writer);
        let mut byte = 0_u8;
        loop {
            match libc::read(until, (&raw mut byte).cast(), 1) {
                1 => return Ok(()),
                // fdwatch has exited.
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

/// Spawns the command. Keeps the child's ends of the pipes open until it has inherited them.
fn launch(
    command: &mut Command,
    until: PipeReader,
    pid_writer: PipeWriter,
) -> io::Result<process::Child> {
    let child = command.spawn();
    drop((until, pid_writer));
    child
}

fn join(launch: JoinHandle<io::Result<process::Child>>) -> io::Result<process::Child> {
    let joined = launch.join();
    joined.unwrap_or_else(|_| Err(io::Error::other("the launching thread panicked")))
}

/// Blocks signals and returns a signalfd for them, and the previous mask, which is restored for the command.
fn block_signals() -> io::Result<(OwnedFd, libc::sigset_t)> {
    // SAFETY: both sets are initialised before use, and the pointers are valid.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in FORWARDED.into_iter().chain([libc::SIGCHLD]) {
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

/// Returns the exit code of shells: that of the command, or 128 and the signal that ended it.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code();
    let code = code.or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok())
        .unwrap_or(u8::MAX)
}
