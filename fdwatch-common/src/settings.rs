//! What the BPF programs are told when they are loaded: read-only to them, so that the verifier sees
//! constants and drops the branches they rule out. Where the loader has them from is not known here.

use core::{mem, ptr, slice};

use crate::Plain;

/// Counters of lost records: one for each [`Kind`](crate::Kind), by its number.
pub const LOST_KINDS: usize = 16;

/// Bytes of a `struct file` read at once, at most.
pub const MAX_FILE_WINDOW: usize = 192;

/// Bytes of a `struct inode` read at once, at most.
pub const MAX_INODE_WINDOW: usize = 128;

/// Parts of a table's bitmap a program emits, at most: 131,072 descriptors. The verifier walks
/// through each; 512 of them, for the largest table that `fs.nr_open` allows by default, take it
/// minutes on 5.10.
pub const MAX_BITMAP_CHUNKS: u32 = 64;

/// In [`Settings::features`]: the kernel gives the current task as a typed pointer
/// (`bpf_get_current_task_btf`, 5.11 and newer), whose fields are then plain loads.
pub const BTF_TASK: u32 = 1;

/// In [`Settings::features`]: the kernel has `bpf_rdonly_cast` (6.2 and newer), which makes a typed
/// pointer of an address.
pub const CAST: u32 = 2;

/// In [`Settings::features`]: the kernel gives the registers of a task (`bpf_task_pt_regs`, 5.15 and
/// newer).
pub const TASK_REGISTERS: u32 = 4;

/// In the object, a call of the helper of this number, which there is not, stands where
/// `bpf_rdonly_cast` is to be called: the loader puts that there, for only the running kernel's BTF
/// tells its number.
pub const CAST_CALL: i32 = 0x0fdc_a570;

/// Of a process, or of all: stacks and paths are wanted.
pub const DETAIL: u32 = 1;

/// Of a process: what happens to its descriptors is not told.
pub const NOT_FOLLOWED: u32 = 2;

/// Of all: something else is asked of some processes than of the others.
pub const ASKED_OF_SOME: u32 = 4;

/// Of a process: what is asked of it is asked of its children too, from their first instruction on,
/// with little of the stack ([`StackPiece`](crate::StackPiece)), and of births alone. Of
/// all: this is asked of some process.
pub const INHERITED: u32 = 8;

/// Of all: nothing is told any more, for the programs are about to be detached.
pub const STOPPED: u32 = 16;

/// What addresses are cast to: numbers of structures in the kernel's BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Casts {
    /// `struct file`.
    pub file: u32,
    /// Any structure that begins with a 64-bit integer.
    pub word: u32,
}

/// Where the fields that are wanted lie in the kernel's structures, in bytes from the beginning of
/// each: resolved from the running kernel's BTF.
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

/// The parts of `struct file` and `struct inode` that are read in one go each, and where in them
/// the fields lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each is the offset of the kernel's field of that name"
)]
pub struct FileWindow {
    /// Where the read of `struct file` begins.
    pub file_start: u32,
    /// How many bytes it reads: no more than [`MAX_FILE_WINDOW`].
    pub file_len: u32,
    /// From there on.
    pub f_inode: u32,
    pub f_flags: u32,
    /// Where the read of `struct inode` begins.
    pub inode_start: u32,
    /// How many bytes it reads: no more than [`MAX_INODE_WINDOW`].
    pub inode_len: u32,
    /// From there on.
    pub i_mode: u32,
    pub i_sb: u32,
    pub i_ino: u32,
    pub i_nlink: u32,
}

/// Everything the programs are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Where things are.
    pub offsets: Offsets,
    /// What addresses are cast to, where there is [`CAST`].
    pub casts: Casts,
    /// [`BTF_TASK`], [`CAST`], [`TASK_REGISTERS`].
    pub features: u32,
    /// The process whose doings are left out: fdwatch itself.
    pub own_tgid: u32,
    /// Where a task's registers begin on its kernel stack, counted from where that does; 0 if that is
    /// not known. For kernels without [`TASK_REGISTERS`].
    pub registers_on_stack: u32,
    /// The one process the snapshot is about; 0 for all.
    pub only_tgid: u32,
    /// Bytes of records in the ring at which its reader is woken.
    pub wake_at: u32,
    /// Bytes of records in the ring at which the snapshot waits for the reader.
    pub pause_at: u32,
}

impl Settings {
    /// All zero: what stands in the object before it is loaded.
    // SAFETY: integers only.
    pub const ZERO: Self = unsafe { mem::zeroed() };

    /// The settings, byte by byte.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        // SAFETY: `Self` is `Plain`, so that all its bytes are initialized.
        unsafe { slice::from_raw_parts(ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

const _: () = assert!(size_of::<Offsets>() == 40 * 4);
const _: () = assert!(size_of::<Settings>() == 48 * 4);

// SAFETY: 32-bit integers only.
unsafe impl Plain for Settings {}
