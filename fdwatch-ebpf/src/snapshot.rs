//! The snapshot: the table of every task, written into the same ring as the events, so that their
//! order is known.

use core::{ffi::c_void, ptr};

use fdwatch_common::{Header, Kind, NO_CALL, SnapshotFile, SnapshotTask};

use crate::{
    kernel::{Pointer, Task, payload},
    ring::{try_reserve, unread_bytes},
    settings::settings,
};

/// `struct bpf_iter__task_file`, kernel/bpf/task_iter.c: the same since 5.8.
#[repr(C)]
pub(crate) struct Context {
    meta: *const c_void,
    task: *const u8,
    fd: u32,
    file: *const u8,
}

/// Result of the program when the ring is full. The reader makes room and continues; the kernel
/// then runs the program again for the same descriptor.
const RETRY: i32 = 1;

/// The task of the last record. Only one snapshot is read at a time.
static mut LAST_TID: u32 = 0;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub(crate) extern "C" fn snapshot(context: *const Context) -> i32 {
    // SAFETY: the kernel passes its context.
    let Context { task, fd, file, .. } = unsafe { ptr::read(context) };
    if task.is_null() || file.is_null() {
        // End of the snapshot. The next one may begin with the same task.
        // SAFETY: see `LAST_TID`.
        unsafe { LAST_TID = 0 };
        return 0;
    }
    let (task, file) = (Task(Pointer::typed(task)), Pointer::typed(file));
    let (tid, tgid) = (task.tid(), task.tgid());
    let only = settings!(only_tgid);
    if tgid == settings!(own_tgid) || (only != 0 && only != tgid) {
        return 0;
    }
    if unread_bytes() > u64::from(settings!(pause_at)) {
        return RETRY;
    }
    let table = task.table();
    let header = |kind: Kind| Header {
        kind: kind as u8,
        flags: 0,
        call: NO_CALL,
        fd: 0,
        tid,
        tgid,
    };
    // SAFETY: see `LAST_TID`.
    if unsafe { LAST_TID } != tid {
        let Some(mut room) = try_reserve::<SnapshotTask>() else {
            return RETRY;
        };
        room.write(SnapshotTask {
            header: header(Kind::SnapshotTask),
            table: table.address(),
            start_time: task.leader().start_time(),
            comm: task.comm(),
            parent: task.parent().tgid(),
            reserved: 0,
        });
        room.submit();
        // SAFETY: see `LAST_TID`.
        unsafe { LAST_TID = tid };
    }
    let Some(mut room) = try_reserve::<SnapshotFile>() else {
        return RETRY;
    };
    room.write(SnapshotFile {
        header: Header {
            flags: SnapshotFile::CLOEXEC.when(table.closes_on_exec(fd)).bits(),
            fd,
            ..header(Kind::SnapshotFile)
        },
        table: table.address(),
        payload: payload(file),
    });
    room.submit();
    0
}
