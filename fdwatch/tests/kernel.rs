//! The model against the kernel, on whatever kernel this runs: a process makes, moves and ends
//! descriptors step by step, and after each step its tables are as /proc shows them.
//!
//! Needs nothing but libc, so that it runs where there is nothing else. What it does is done by a
//! child, this very program run again, because fdwatch leaves itself out.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and where is in the panic"
)]

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    thread,
};

use fdwatch::{
    engine::Engine,
    model::{Access, Moment, Table},
    probe::{Options, Probe},
    proc,
};

/// Set for the child.
const CHILD: &str = "FDWATCH_TEST_CHILD";

/// A descriptor: its inode, how it may be used, whether it closes on exec.
type Row = (u64, &'static str, bool);

#[test]
fn the_model_is_what_proc_shows_after_every_kind_of_call() {
    let mut probe = match Probe::load(Options::default()) {
        Ok(probe) => probe,
        Err(error) => {
            assert!(env::var_os("FDWATCH_REQUIRE_BPF").is_none(), "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    probe.attach().unwrap();
    let mut child = Worker::start();
    let mut engine = Engine::new(proc::anonymous_devices(), true);
    engine
        .snapshot(|on_record| probe.snapshot(|record| on_record(record, now())))
        .unwrap();
    loop {
        probe.drain(usize::MAX, |record| engine.record(record, now()));
        compare(&engine, child.child.id(), &child.at);
        if !child.step() {
            break;
        }
    }
    assert_eq!(probe.lost().unwrap().total(), 0);
    assert_eq!(engine.model.statistics().unknown_closed, 0);
    probe.detach();
}

fn now() -> Moment {
    Moment(proc::boottime())
}

/// The child, and what it has done last.
struct Worker {
    child: Child,
    at: String,
}

impl Worker {
    fn start() -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut worker = Self {
            child,
            at: String::new(),
        };
        assert!(worker.reached());
        worker
    }

    /// Lets it take the next step; whether there was one.
    fn step(&mut self) -> bool {
        self.child.stdin.as_mut().unwrap().write_all(b".").unwrap();
        self.reached()
    }

    fn reached(&mut self) -> bool {
        let mut line = Vec::new();
        let mut byte = [0];
        let output = self.child.stderr.as_mut().unwrap();
        while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        self.at = String::from_utf8(line).unwrap();
        !self.at.is_empty()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares the process, its threads and its children with what the model has.
fn compare(engine: &Engine, pid: u32, step: &str) {
    let model = &engine.model;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let tid: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let own = model.tables().find(|table| {
            let mut holders = table.holders().iter();
            holders.any(|holder| (holder.tgid, holder.tid) == (pid, tid))
        });
        let table = own.or_else(|| model.table_of(pid));
        let has = table.map_or_else(BTreeMap::new, rows_of);
        assert_eq!(
            has,
            shown(pid, tid),
            "process {pid}, thread {tid}, after {step}"
        );
        let children = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            compare(engine, child.parse().unwrap(), step);
        }
    }
}

fn rows_of(table: &Table) -> BTreeMap<u32, Row> {
    let rows = table.iter().map(|(fd, slot)| {
        let row = (slot.ino, slot.access().name(), slot.closes_on_exec());
        (fd, row)
    });
    rows.collect()
}

fn shown(pid: u32, tid: u32) -> BTreeMap<u32, Row> {
    let task = format!("/proc/{pid}/task/{tid}");
    let entries = fs::read_dir(format!("{task}/fd")).unwrap();
    let rows = entries.map(|entry| {
        let fd: u32 = entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let ino = fs::metadata(format!("{task}/fd/{fd}")).unwrap().ino();
        let info = fs::read_to_string(format!("{task}/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        let access = match flags & (libc::O_ACCMODE | libc::O_PATH) {
            libc::O_RDONLY => Access::Read,
            libc::O_WRONLY => Access::Write,
            libc::O_RDWR => Access::ReadWrite,
            _ => Access::Path,
        };
        (fd, (ino, access.name(), flags & libc::O_CLOEXEC != 0))
    });
    rows.collect()
}

/// Not a test, but what the child does.
#[test]
#[ignore = "is run by the other one"]
fn child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = CString::new(directory.path().join("x").to_str().unwrap()).unwrap();
    step("nothing");
    // SAFETY: all pointers are to what lives until the calls return, and the descriptors are this
    // process's own, which has no other use for them.
    unsafe { calls(&path, directory.path().to_str().unwrap()) };
    drop(directory);
    // No line: the end.
    eprintln!();
}

/// Tells that a step is done, and waits for the next.
fn step(done: &str) {
    eprintln!("{done}");
    let mut byte = [0];
    if std::io::stdin().read(&mut byte).unwrap() == 0 {
        std::process::exit(0);
    }
}

/// # Safety
///
/// No one else uses the process's descriptors.
unsafe fn calls(path: &CString, directory: &str) {
    let directory = CString::new(directory).unwrap();
    // SAFETY: as said above.
    unsafe {
        let one = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600);
        let other = libc::open(
            path.as_ptr(),
            libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC,
        );
        libc::creat(path.as_ptr(), 0o600);
        libc::open(path.as_ptr(), libc::O_PATH);
        libc::open(directory.as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600);
        libc::open(c"/no/such/file".as_ptr(), libc::O_RDONLY);
        step("opens");

        libc::dup(one);
        libc::dup2(one, 40);
        libc::dup2(other, 40);
        libc::dup2(40, 40);
        libc::dup3(one, 41, libc::O_CLOEXEC);
        libc::fcntl(one, libc::F_DUPFD, 50);
        libc::fcntl(one, libc::F_DUPFD_CLOEXEC, 60);
        libc::fcntl(one, libc::F_GETFL);
        step("dups");

        let mut pair = [0; 2];
        libc::pipe(pair.as_mut_ptr());
        libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC);
        libc::eventfd(0, 0);
        libc::epoll_create1(libc::EPOLL_CLOEXEC);
        libc::memfd_create(c"m".as_ptr(), 0);
        libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
        libc::inotify_init1(0);
        libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let mut sockets = [0; 2];
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, sockets.as_mut_ptr());
        step("all other kinds");

        libc::fcntl(one, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(other, libc::F_SETFD, 0);
        libc::ioctl(40, libc::FIOCLEX);
        libc::ioctl(41, libc::FIONCLEX);
        step("flags");

        send(sockets[0], &[one, other, 40]);
        assert_eq!(receive(sockets[1], libc::MSG_PEEK), 3);
        assert_eq!(receive(sockets[1], libc::MSG_CMSG_CLOEXEC), 3);
        step("received");

        libc::close(one);
        libc::close(one);
        libc::close(-1);
        libc::close(1_000_000);
        step("closes");

        for fd in 100..400 {
            libc::dup2(other, fd);
        }
        // Not there before 5.9 and 5.11: then nothing happens.
        libc::syscall(libc::SYS_close_range, 120, 350, 0);
        libc::syscall(libc::SYS_close_range, 360, 390, 4);
        step("close_range");

        let child = libc::fork();
        if child == 0 {
            libc::close(other);
            libc::dup2(40, 70);
            libc::pause();
            libc::_exit(0);
        }
        let program = libc::fork();
        if program == 0 {
            libc::execl(
                c"/bin/sleep".as_ptr(),
                c"sleep".as_ptr(),
                c"1000".as_ptr(),
                std::ptr::null::<libc::c_char>(),
            );
            libc::_exit(1);
        }
        // Until both have done what they do, and wait.
        until(|| is_asleep(child) && is_asleep(program));
        step("forks");
        libc::kill(child, libc::SIGKILL);
        libc::kill(program, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
        libc::waitpid(program, std::ptr::null_mut(), 0);
        step("ends");
    }
    let path = path.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // SAFETY: the path lives; the thread's table is its own from here on.
        unsafe {
            libc::unshare(libc::CLONE_FILES);
            libc::open(path.as_ptr(), libc::O_RDONLY);
            ready.send(()).unwrap();
            libc::pause();
        }
    });
    is_ready.recv().unwrap();
    // SAFETY: it is this process's own.
    unsafe { libc::close(200) };
    step("a table of a thread's own");
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Whether the process waits in `pause` or as `sleep`, having done all before.
fn is_asleep(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number.is_some_and(|number: i64| {
        [libc::SYS_clock_nanosleep, libc::SYS_nanosleep, PAUSE].contains(&number)
    })
}

#[cfg(target_arch = "x86_64")]
const PAUSE: i64 = libc::SYS_pause;
/// What the C library makes of it where it is no call.
#[cfg(not(target_arch = "x86_64"))]
const PAUSE: i64 = libc::SYS_ppoll;

/// Room for some descriptors in a control message, aligned as it must be.
type Control = [u64; 8];

/// # Safety
///
/// The descriptors are open.
unsafe fn send(socket: i32, fds: &[i32]) {
    let mut control: Control = [0; 8];
    let mut byte = *b"x";
    let len = size_of_val(fds) as u32;
    // SAFETY: the control message has room for the descriptors, and everything lives until the end.
    unsafe {
        let mut part = part_of(&mut byte);
        let mut message = message_of(&mut part, &mut control);
        message.msg_controllen = libc::CMSG_SPACE(len) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as _;
        let data = libc::CMSG_DATA(header).cast::<i32>();
        std::ptr::copy_nonoverlapping(fds.as_ptr(), data, fds.len());
        assert_eq!(libc::sendmsg(socket, &raw const message, 0), 1);
    }
}

/// Returns how many came.
///
/// # Safety
///
/// What comes is no one else's.
unsafe fn receive(socket: i32, flags: i32) -> usize {
    let mut control: Control = [0; 8];
    let mut byte = *b"-";
    // SAFETY: everything lives until the end.
    unsafe {
        let mut part = part_of(&mut byte);
        let mut message = message_of(&mut part, &mut control);
        assert_eq!(libc::recvmsg(socket, &raw mut message, flags), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
        len / size_of::<i32>()
    }
}

fn part_of(byte: &mut [u8; 1]) -> libc::iovec {
    libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    }
}

fn message_of(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: zeroes are a message with nothing in it.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}
