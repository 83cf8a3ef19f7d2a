//! The settings that the BPF programs are loaded with. They are read-only to the programs, so that
//! the verifier treats them as constants and drops the branches they rule out.

use core::{mem, ptr, slice};

use crate::Plain;

/// Maximum number of bytes of a `struct file` read at once.
pub const MAX_FILE_WINDOW: usize = 192;

/// Maximum number of bytes of a `struct inode` read at once.
pub const MAX_INODE_WINDOW: usize = 128;

/// Maximum number of [`TableBits`](crate::TableBits) that a program writes in one run: 131,072
/// descriptors. The verifier checks each iteration; on 5.10 it needs minutes for 512 of them, which
/// would suffice for the largest table that `fs.nr_open` allows by default.
pub const MAX_BITMAP_CHUNKS: u32 = 64;

/// In [`Settings::features`]: the kernel provides the current task as a typed pointer
/// (`bpf_get_current_task_btf`, 5.11 and newer), whose fields are plain loads.
pub const BTF_TASK: u32 = 1;

/// In [`Settings::features`]: the kernel has `bpf_rdonly_cast` (6.2 and newer), which turns an
/// address into a typed pointer.
pub const CAST: u32 = 2;

/// In [`Settings::features`]: the kernel provides the registers of a task (`bpf_task_pt_regs`, 5.15
/// and newer).
pub const TASK_REGISTERS: u32 = 4;

/// Number of a helper that does not exist. Placeholder for calls of `bpf_rdonly_cast`. The loader
/// replaces them, because only the running kernel's BTF has the number of that function.
pub const CAST_CALL: i32 = 0x0fdc_a570;

/// Control flag, of a process or global: record stacks and paths.
pub const DETAIL: u32 = 1;

/// Control flag of a process: do not record its descriptors.
pub const EXCLUDED: u32 = 2;

/// Global control flag: some processes have their own flags.
pub const PER_PROCESS: u32 = 4;

/// Control flag of a process: its children inherit its flags, from their first instruction on. Detail
/// is then recorded for new descriptors only, with few [`StackPiece`](crate::StackPiece)s. Global:
/// some process has this flag.
pub const INHERIT: u32 = 8;

/// Global control flag: record nothing, because the programs are about to be detached.
pub const STOPPED: u32 = 16;

/// Type ids in the kernel's BTF that addresses are cast to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Casts {
    /// `struct file`.
    pub file: u32,
    /// Any structure that begins with a 64-bit integer.
    pub word: u32,
}

/// Offsets of fields in the kernel's structures, in bytes, resolved from the running kernel's BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each is the offset of the kernel's field of that name"
)]
pub struct Offsets {
    pub task_flags: u32,
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_files: u32,
    pub task_group_leader: u32,
    pub task_real_parent: u32,
    pub task_start_boottime: u32,
    pub task_comm: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    pub files_count: u32,
    pub files_fdt: u32,
    pub fdt_max_fds: u32,
    pub fdt_fd: u32,
    pub fdt_close_on_exec: u32,
    pub fdt_open_fds: u32,
    pub super_block_dev: u32,
    pub file_private_data: u32,
    pub socket_sk: u32,
    pub sock_family: u32,
    pub task_stack: u32,
    pub task_mm: u32,
    pub mm_start_stack: u32,
    pub registers_ip: u32,
    pub registers_sp: u32,
    pub registers_bp: u32,
    pub registers_lr: u32,
    pub registers_cs: u32,
    pub registers_first: u32,
    pub registers_second: u32,
    pub file: FileWindow,
}

/// The parts of `struct file` and `struct inode` that are read at once, and the offsets of fields in
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each is the offset of the kernel's field of that name"
)]
pub struct FileWindow {
    /// Offset in `struct file` of the read.
    pub file_start: u32,
    /// Its length in bytes, at most [`MAX_FILE_WINDOW`].
    pub file_len: u32,
    /// Relative to `file_start`.
    pub f_inode: u32,
    pub f_flags: u32,
    /// Offset in `struct inode` of the read.
    pub inode_start: u32,
    /// Its length in bytes, at most [`MAX_INODE_WINDOW`].
    pub inode_len: u32,
    /// Relative to `inode_start`.
    pub i_mode: u32,
    pub i_sb: u32,
    pub i_ino: u32,
    pub i_nlink: u32,
}

/// The settings of the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Offsets of fields.
    pub offsets: Offsets,
    /// Targets of casts; used only with [`CAST`].
    pub casts: Casts,
    /// [`BTF_TASK`], [`CAST`], [`TASK_REGISTERS`].
    pub features: u32,
    /// The process that is never recorded: fdwatch itself.
    pub own_tgid: u32,
    /// Offset of a task's registers from the beginning of its kernel stack; 0 if unknown. For kernels
    /// without [`TASK_REGISTERS`].
    pub registers_on_stack: u32,
    /// The only process in the snapshot; 0 for all.
    pub only_tgid: u32,
    /// Number of unread bytes in the ring at which the reader is woken.
    pub wake_at: u32,
    /// Number of unread bytes in the ring at which the snapshot waits for the reader.
    pub pause_at: u32,
}

impl Settings {
    /// All zero: the value in the object before it is loaded.
    // SAFETY: integers only.
    pub const ZERO: Self = unsafe { mem::zeroed() };

    /// Returns the bytes of the settings.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        // SAFETY: `Self` is `Plain`: all of its bytes are initialized.
        unsafe { slice::from_raw_parts(ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

const _: () = assert!(size_of::<Offsets>() == 40 * 4);
const _: () = assert!(size_of::<Settings>() == 48 * 4);

// SAFETY: 32-bit integers only.
unsafe impl Plain for Settings {}
