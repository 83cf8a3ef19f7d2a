//! A process opens, moves and closes descriptors step by step; after each step the model equals /proc.

use std::{ffi::CString, fs, thread};

use fdwatch_core::Lost;

use crate::{
    messages::{MAX, receive, receive_into, receive_several, send},
    truth::Truth,
    watching::Watching,
    worker::{Worker, end, is_worker, step},
};

#[test]
fn model_equals_proc_after_every_kind_of_call() {
    let Some(mut watching) = Watching::attach() else {
        return;
    };
    let mut child = Worker::start("steps::child");
    watching.snapshot();
    loop {
        watching.drain();
        let differences = Truth::of(child.child.id()).differences_from(&watching.engine.model);
        assert_eq!(differences, [], "after {}", child.at);
        if !child.step() {
            break;
        }
    }
    assert_eq!(watching.lost(), Lost::default());
    // Stopped programs write no records of the same calls.
    watching.probe.stop().unwrap();
    let mut child = Worker::start("steps::child");
    watching.drain();
    watching.records.clear();
    while child.step() {}
    watching.drain();
    assert_eq!(watching.records, [] as [Box<[u8]>; 0]);
    watching.probe.detach();
}

/// Not a test: the child.
#[test]
#[ignore = "run by the other test as a child process"]
fn child() {
    if !is_worker() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = CString::new(directory.path().join("x").to_str().unwrap()).unwrap();
    step("nothing");
    // SAFETY: all pointees live until the calls return, and no other code of this process relies on the
    // descriptors.
    unsafe { calls(&path, directory.path().to_str().unwrap()) };
    drop(directory);
    end();
}

/// Opens, moves and closes descriptors with every call, one step each.
///
/// # Safety
///
/// No other code may rely on the process's descriptors.
unsafe fn calls(path: &CString, directory: &str) {
    let directory = CString::new(directory).unwrap();
    // SAFETY: guaranteed by the caller.
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

        send(sockets[0], &[one, other, 40]).unwrap();
        assert_eq!(receive(sockets[1], libc::MSG_PEEK).unwrap(), 3);
        assert_eq!(receive(sockets[1], libc::MSG_CMSG_CLOEXEC).unwrap(), 3);
        step("received");

        send(sockets[0], &[one; MAX]).unwrap();
        assert_eq!(receive(sockets[1], 0).unwrap(), MAX);
        step("the maximum in one message");

        send(sockets[0], &[one, other, 40]).unwrap();
        // Room for two.
        assert_eq!(receive_into(sockets[1], 0, 16 + 8).unwrap(), 2);
        step("cut off");

        for _ in 0..3 {
            send(sockets[0], &[one, other]).unwrap();
        }
        assert_eq!(receive_several(sockets[1], 0).unwrap(), 6);
        step("several messages at once");

        libc::close(one);
        libc::close(one);
        libc::close(-1);
        libc::close(1_000_000);
        step("closes");

        for fd in 100..400 {
            libc::dup2(other, fd);
        }
        // Since 5.9 and 5.11; without effect before.
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
        // Waits until both have made their calls and sleep.
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
        // SAFETY: the path lives until the call returns; the thread has its own table from here on.
        unsafe {
            libc::unshare(libc::CLONE_FILES);
            libc::open(path.as_ptr(), libc::O_RDONLY);
            ready.send(()).unwrap();
            libc::pause();
        }
    });
    is_ready.recv().unwrap();
    // SAFETY: this process owns it.
    unsafe { libc::close(200) };
    step("a thread with its own table");
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Returns whether the process sleeps in `pause` or `sleep`, so that its earlier calls are done.
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
/// The call that the C library uses where `pause` is none.
#[cfg(not(target_arch = "x86_64"))]
const PAUSE: i64 = libc::SYS_ppoll;
