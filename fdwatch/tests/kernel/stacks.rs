//! Registers and raw stacks in records match the thread's, on every kernel.

use std::{arch::asm, ffi::CString, thread};

use fdwatch_common::{Event, PIECE};

use crate::{
    watching::{Watching, aligned, bytes},
    worker::{Worker, end, is_worker, step},
};

/// Values in the child's frame pointer and on its stack.
const FRAME: u64 = 0x1234_5678_9abc_def0;
const MARK: u64 = 0xfeed_0fdb_0a7c_4000;

#[test]
fn registers_and_stack_match_the_thread() {
    let Some(mut watching) = Watching::attach() else {
        return;
    };
    let mut child = Worker::start("stacks::child");
    watching.snapshot();
    let tgid = child.child.id();
    watching.probe.set_detail(tgid, true).unwrap();
    watching.probe.allow_detail(100).unwrap();
    for of in ["a thread", "the first thread"] {
        watching.records.clear();
        assert!(child.step());
        watching.drain();
        // The addresses of the open and the close, and the stack pointer.
        let numbers = child.at.split(' ').map(|word| word.parse().unwrap());
        let [opened, closed, sp] = numbers.collect::<Vec<u64>>()[..] else {
            panic!("{}", child.at);
        };
        let records: Vec<_> = watching.records.iter().map(|it| aligned(it)).collect();
        let mut registers = Vec::new();
        let (mut next, mut marks) = (0, 0);
        for words in &records {
            match Event::parse(bytes(words)).unwrap() {
                Event::Registers(it) if it.header.tgid == tgid && it.bp == FRAME => {
                    assert_eq!((it.sp, next), (sp, 0), "{of}: {it:?}");
                    registers.push(it.ip);
                    next = sp & !(PIECE as u64 - 1);
                }
                Event::StackPiece(it) if it.header.tgid == tgid && next != 0 => {
                    assert_eq!(it.address, next, "{of}");
                    next += PIECE as u64;
                    if let Some(at) = sp.checked_sub(it.address) {
                        let word = it.bytes[at as usize..].first_chunk().unwrap();
                        assert_eq!(u64::from_ne_bytes(*word), MARK, "{of}");
                        marks += 1;
                    }
                }
                Event::FdOpen(it) if it.header.tgid == tgid => next = 0,
                Event::FdClose(it) if it.header.tgid == tgid => next = 0,
                _ => {}
            }
        }
        assert_eq!(registers, [opened, closed], "{of}");
        assert_eq!(marks, 2, "{of}");
    }
    assert_eq!(watching.lost().detail_left_out(), 0);
    watching.probe.detach();
}

/// Not a test: the child.
#[test]
#[ignore = "run by the other test as a child process"]
fn child() {
    if !is_worker() {
        return;
    }
    step("nothing");
    let numbers = thread::spawn(open_and_close).join().unwrap();
    step(&numbers);
    step(&open_and_close());
    end();
}

/// Opens and closes a file, and prints each call's address and the stack pointer.
fn open_and_close() -> String {
    let path = CString::new("/").unwrap();
    let open = [
        libc::SYS_open as u64,
        path.as_ptr() as u64,
        libc::O_RDONLY as u64,
    ];
    // SAFETY: the path lives until the call returns.
    let (fd, opened, sp) = unsafe { call(open) };
    // SAFETY: this function owns the descriptor.
    let (result, closed, again) = unsafe { call([libc::SYS_close as u64, fd, 0]) };
    assert_eq!((result, again), (0, sp));
    format!("{opened} {closed} {sp}")
}

/// Makes a call with [`FRAME`] in the frame pointer and [`MARK`] at the end of the stack. Returns its result,
/// its address, and the end of the stack.
///
/// # Safety
///
/// As for the call.
#[inline(never)]
unsafe fn call([number, first, second]: [u64; 3]) -> (u64, u64, u64) {
    let (result, ip, sp);
    // SAFETY: changed registers are restored or declared as clobbered.
    unsafe {
        asm!(
            "push {mark}",
            "mov {saved}, rbp",
            "mov rbp, {frame}",
            "lea {ip}, [rip + 2f]",
            "mov {sp}, rsp",
            "syscall",
            "2:",
            "mov rbp, {saved}",
            "lea rsp, [rsp + 8]",
            mark = in(reg) MARK,
            frame = in(reg) FRAME,
            saved = out(reg) _,
            ip = out(reg) ip,
            sp = out(reg) sp,
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    (result, ip, sp)
}
