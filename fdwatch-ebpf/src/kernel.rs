//! Access to the kernel's structures. No other module reads them.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel,
    generated::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel as probe_read_kernel,
        bpf_task_pt_regs,
    },
};
use fdwatch_common::{
    BTF_TASK, CAST, CAST_CALL, DETAIL, EXCLUDED, INHERIT, MAX_FILE_WINDOW, MAX_INODE_WINDOW,
    Payload, STOPPED, TASK_REGISTERS,
};

use crate::{
    control::{effective_flags, is_stopped},
    settings::settings,
};

/// A pointer into the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Pointer {
    address: *const u8,
    /// The verifier knows its type and allows plain loads of its fields.
    typed: bool,
}

impl Pointer {
    /// Returns a pointer whose type the verifier knows.
    #[inline(always)]
    pub(crate) const fn typed(address: *const u8) -> Self {
        Self {
            address,
            typed: true,
        }
    }

    /// Casts an address to a pointer to the structure with that BTF type id. Only with [`CAST`].
    #[inline(always)]
    pub(crate) fn cast(address: u64, structure: u32) -> Self {
        // SAFETY: the loader replaces this call by one of `bpf_rdonly_cast`, which has this type
        // and leaves it to each load to check the address.
        let cast: unsafe extern "C" fn(u64, u32) -> *const u8 =
            unsafe { core::mem::transmute(CAST_CALL as usize) };
        // SAFETY: as above.
        Self::typed(unsafe { cast(address, structure) })
    }

    /// Returns a pointer whose type the verifier does not know.
    #[inline(always)]
    pub(crate) const fn untyped(address: u64) -> Self {
        Self {
            address: address as *const u8,
            typed: false,
        }
    }

    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.address as u64
    }

    /// Returns the field at `offset`; zero if it cannot be read.
    #[inline(always)]
    pub(crate) fn load<T: Copy + Default>(self, offset: u32) -> T {
        let field = self.address.wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the verifier checks loads through typed pointers, and a load through a stale one
        // reads zero; the helper checks all other addresses.
        unsafe {
            if self.typed {
                *field
            } else {
                bpf_probe_read_kernel(field).unwrap_or_default()
            }
        }
    }

    /// Returns the pointer at `offset`.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> Self {
        // Loaded as a pointer: the compiler, unlike the verifier, distinguishes a pointer from one
        // that was an integer.
        let field = self
            .address
            .wrapping_add(offset as usize)
            .cast::<*const u8>();
        // SAFETY: as in `load`.
        let address = unsafe {
            if self.typed {
                *field
            } else {
                bpf_probe_read_kernel(field).unwrap_or(core::ptr::null())
            }
        };
        Self { address, ..self }
    }
}

/// The thread that runs the program.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    /// The control flags of its process, if they were looked up.
    pub(crate) flags: u32,
}

impl Caller {
    /// Returns whether to record stacks and paths.
    #[inline(always)]
    pub(crate) fn wants_detail(self) -> bool {
        self.flags & DETAIL != 0
    }

    /// Returns whether to record stacks of closes as well.
    #[inline(always)]
    pub(crate) fn wants_close_detail(self) -> bool {
        self.flags & (DETAIL | INHERIT) == DETAIL
    }
}

/// Returns the current thread, unless it is fdwatch's own or the programs are stopped.
#[inline(always)]
pub(crate) fn caller() -> Option<Caller> {
    if is_stopped() {
        return None;
    }
    any_caller()
}

/// As [`caller`], but also excludes processes that are not followed. For programs that run often:
/// elsewhere, the check is not worth the time that its verification takes.
#[inline(always)]
pub(crate) fn traced_caller() -> Option<Caller> {
    let caller = any_caller()?;
    let flags = effective_flags(caller.tgid);
    (flags & (EXCLUDED | STOPPED) == 0).then_some(Caller { flags, ..caller })
}

#[inline(always)]
fn any_caller() -> Option<Caller> {
    let both = bpf_get_current_pid_tgid();
    let caller = Caller {
        tid: both as u32,
        tgid: (both >> 32) as u32,
        flags: 0,
    };
    (caller.tgid != settings!(own_tgid)).then_some(caller)
}

/// Returns the descriptor table of the current thread.
#[inline(always)]
pub(crate) fn current_table() -> Table {
    current_task().table()
}

/// Returns whether the current process has other threads.
#[inline(always)]
pub(crate) fn has_other_threads() -> bool {
    current_task().live_threads() > 1
}

#[inline(always)]
fn current_task() -> Task {
    Task(if settings!(features) & BTF_TASK == 0 {
        Pointer {
            // SAFETY: the helper has no requirements.
            address: unsafe { bpf_get_current_task() } as *const u8,
            typed: false,
        }
    } else {
        // SAFETY: the helper has no requirements.
        Pointer::typed(unsafe { bpf_get_current_task_btf() }.cast())
    })
}

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) Pointer);

/// `PF_KTHREAD`, include/linux/sched.h: the same since 2.6.27.
const KERNEL_THREAD: u32 = 0x0020_0000;

impl Task {
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        self.0.load(settings!(offsets.task_pid))
    }

    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        self.0.load(settings!(offsets.task_tgid))
    }

    #[inline(always)]
    pub(crate) fn is_kernel_thread(self) -> bool {
        self.0.load::<u32>(settings!(offsets.task_flags)) & KERNEL_THREAD != 0
    }

    /// Returns the thread group leader.
    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        Self(self.0.follow(settings!(offsets.task_group_leader)))
    }

    #[inline(always)]
    pub(crate) fn parent(self) -> Self {
        Self(self.0.follow(settings!(offsets.task_real_parent)))
    }

    /// Nanoseconds since boot.
    #[inline(always)]
    pub(crate) fn start_time(self) -> u64 {
        self.0.load(settings!(offsets.task_start_boottime))
    }

    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; 16] {
        let [low, high] = self.0.load::<[u64; 2]>(settings!(offsets.task_comm));
        // SAFETY: both are sixteen bytes.
        unsafe { core::mem::transmute([low, high]) }
    }

    /// Returns the number of threads of its process that have not begun to exit.
    #[inline(always)]
    pub(crate) fn live_threads(self) -> i32 {
        let signal = self.0.follow(settings!(offsets.task_signal));
        signal.load(settings!(offsets.signal_live))
    }

    /// Returns the address of its descriptor table; 0 after the task has released it.
    #[inline(always)]
    pub(crate) fn table_address(self) -> u64 {
        self.0.follow(settings!(offsets.task_files)).address()
    }

    #[inline(always)]
    pub(crate) fn table(self) -> Table {
        let files = self.0.follow(settings!(offsets.task_files));
        Table {
            files,
            fdt: files.follow(settings!(offsets.files_fdt)),
        }
    }
}

/// The registers of a thread when it entered the kernel.
#[derive(Clone, Copy)]
pub(crate) struct UserRegisters {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
    pub(crate) lr: u64,
    /// The first two arguments, if [`Self::have_arguments`].
    pub(crate) arguments: [u64; 2],
}

/// `__USER_CS`, arch/x86/include/asm/segment.h: the same since 2.6.
const USER_CS: u16 = 0x33;

impl UserRegisters {
    /// Returns the registers of the current thread, if the kernel gives access to them. In system
    /// calls only.
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        let task = current_task();
        if settings!(features) & TASK_REGISTERS != 0 {
            // SAFETY: the pointer has the type that the helper takes.
            let registers = unsafe { bpf_task_pt_regs(task.0.address.cast_mut().cast()) };
            return Some(Self::at(Pointer::typed(registers as *const u8)));
        }
        let begin = settings!(registers_on_stack);
        if begin == 0 {
            return None;
        }
        let stack: u64 = task.0.load(settings!(offsets.task_stack));
        let registers = Pointer::untyped(stack.wrapping_add(begin.into()));
        // The size of the stack is assumed, so check that the registers are valid.
        let cs: u16 = registers.load(settings!(offsets.registers_cs));
        (cs == USER_CS).then(|| Self::at(registers))
    }

    /// Returns whether arguments are available at the exit of a call.
    #[inline(always)]
    pub(crate) fn have_arguments() -> bool {
        settings!(features) & TASK_REGISTERS != 0 && settings!(offsets.registers_first) != 0
    }

    #[inline(always)]
    fn at(registers: Pointer) -> Self {
        Self {
            ip: registers.load(settings!(offsets.registers_ip)),
            sp: registers.load(settings!(offsets.registers_sp)),
            bp: registers.load(settings!(offsets.registers_bp)),
            lr: registers.load(settings!(offsets.registers_lr)),
            arguments: [
                registers.load(settings!(offsets.registers_first)),
                registers.load(settings!(offsets.registers_second)),
            ],
        }
    }
}

/// Returns the beginning of the current process's main stack: arguments and environment are above it.
#[inline(always)]
pub(crate) fn main_stack_start() -> u64 {
    let mm = current_task().0.follow(settings!(offsets.task_mm));
    mm.load(settings!(offsets.mm_start_stack))
}

/// A descriptor table: `struct files_struct`, and its current `struct fdtable`.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    files: Pointer,
    fdt: Pointer,
}

impl Table {
    /// Reloads the `struct fdtable`, which is replaced when the table grows.
    #[inline(always)]
    pub(crate) fn reload(self) -> Self {
        Self {
            fdt: self.files.follow(settings!(offsets.files_fdt)),
            ..self
        }
    }

    /// Returns the table's identity.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.files.address()
    }

    /// Returns whether more than one task holds it.
    #[inline(always)]
    pub(crate) fn is_shared(self) -> bool {
        self.files.load::<i32>(settings!(offsets.files_count)) > 1
    }

    /// Returns the number of descriptors that it has room for.
    #[inline(always)]
    pub(crate) fn capacity(self) -> u32 {
        self.fdt.load(settings!(offsets.fdt_max_fds))
    }

    /// Returns the file `fd` refers to, if it is open.
    #[inline(always)]
    pub(crate) fn file(self, fd: u32) -> Option<File> {
        match self.file_address(fd) {
            0 => None,
            file => Some(File(file)),
        }
    }

    /// Returns the address of the file `fd` refers to; 0 if it is not open. Not an `Option`: the
    /// compiler leaves the value of `None` uninitialized on the stack, which 5.10's verifier
    /// rejects in a record.
    #[inline(always)]
    pub(crate) fn file_address(self, fd: u32) -> u64 {
        if fd >= self.capacity() {
            return 0;
        }
        let slots = self.fdt.load::<u64>(settings!(offsets.fdt_fd));
        word(slots.wrapping_add(u64::from(fd) * 8))
    }

    /// Returns whether `fd`, which must be below the capacity, is closed on exec.
    #[inline(always)]
    pub(crate) fn closes_on_exec(self, fd: u32) -> bool {
        let words = self.bitmap(settings!(offsets.fdt_close_on_exec));
        word(words.wrapping_add(u64::from(fd / 64) * 8)) >> (fd % 64) & 1 != 0
    }

    /// Returns the address of the bitmap of open descriptors.
    #[inline(always)]
    pub(crate) fn open_bitmap(self) -> u64 {
        self.bitmap(settings!(offsets.fdt_open_fds))
    }

    /// Returns the address of the bitmap of close-on-exec descriptors.
    #[inline(always)]
    pub(crate) fn close_on_exec_bitmap(self) -> u64 {
        self.bitmap(settings!(offsets.fdt_close_on_exec))
    }

    #[inline(always)]
    fn bitmap(self, offset: u32) -> u64 {
        self.fdt.load(offset)
    }
}

/// An open file description: the address of a `struct file`.
#[derive(Clone, Copy)]
pub(crate) struct File(pub(crate) u64);

/// include/uapi/linux/stat.h and include/linux/socket.h.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const AF_UNIX: u16 = 1;

/// include/uapi/asm-generic/fcntl.h, used by all architectures with BPF.
const O_PATH: u32 = 0o10_000_000;

impl File {
    /// Returns whether it was opened with `O_PATH`.
    #[inline(always)]
    pub(crate) fn is_path_only(self) -> bool {
        let flags = settings!(offsets.file.file_start) + settings!(offsets.file.f_flags);
        Pointer::untyped(self.0).load::<u32>(flags) & O_PATH != 0
    }

    /// Returns whether it is a Unix socket, which can transfer descriptors.
    #[inline(always)]
    pub(crate) fn is_unix_socket(self) -> bool {
        let window = settings!(offsets.file.file_start);
        let file = Pointer::untyped(self.0);
        let inode = file.follow(window + settings!(offsets.file.f_inode));
        let mode =
            inode.load::<u16>(settings!(offsets.file.inode_start) + settings!(offsets.file.i_mode));
        // The type of the private data depends on the file's.
        mode & S_IFMT == S_IFSOCK
            && file
                .follow(settings!(offsets.file_private_data))
                .follow(settings!(offsets.socket_sk))
                .load::<u16>(settings!(offsets.sock_family))
                == AF_UNIX
    }

    /// Its payload, read by typed loads if possible.
    #[inline(always)]
    pub(crate) fn payload(self) -> Payload {
        if settings!(features) & CAST == 0 {
            self.copy_payload()
        } else {
            payload(Pointer::cast(self.0, settings!(casts.file)))
        }
    }

    /// As [`Self::payload`], but by one read each of the file, the inode and the
    /// device: slower to run, and faster to verify, because the verifier looks up each field of a
    /// typed load.
    #[inline(always)]
    pub(crate) fn copy_payload(self) -> Payload {
        let file = Window::<{ MAX_FILE_WINDOW / 8 }>::read(
            self.0 + u64::from(settings!(offsets.file.file_start)),
            settings!(offsets.file.file_len),
        );
        let inode = Window::<{ MAX_INODE_WINDOW / 8 }>::read(
            file.get::<u64>(settings!(offsets.file.f_inode))
                + u64::from(settings!(offsets.file.inode_start)),
            settings!(offsets.file.inode_len),
        );
        let device = inode.get::<u64>(settings!(offsets.file.i_sb))
            + u64::from(settings!(offsets.super_block_dev));
        Payload {
            file: self.0,
            ino: inode.get(settings!(offsets.file.i_ino)),
            // SAFETY: the helper checks the address.
            dev: unsafe { bpf_probe_read_kernel(device as *const u32) }.unwrap_or(0),
            flags: file.get(settings!(offsets.file.f_flags)),
            mode: inode.get::<u16>(settings!(offsets.file.i_mode)).into(),
            nlink: inode.get(settings!(offsets.file.i_nlink)),
        }
    }
}

/// Returns the payload of `file`, which must be a typed pointer.
#[inline(always)]
pub(crate) fn payload(file: Pointer) -> Payload {
    let window = settings!(offsets.file.file_start);
    let inode = file.follow(window + settings!(offsets.file.f_inode));
    let start = settings!(offsets.file.inode_start);
    Payload {
        file: file.address(),
        ino: inode.load(start + settings!(offsets.file.i_ino)),
        dev: inode
            .follow(start + settings!(offsets.file.i_sb))
            .load(settings!(offsets.super_block_dev)),
        flags: file.load(window + settings!(offsets.file.f_flags)),
        mode: inode
            .load::<u16>(start + settings!(offsets.file.i_mode))
            .into(),
        nlink: inode.load(start + settings!(offsets.file.i_nlink)),
    }
}

/// Returns the 64-bit integer at an address; zero if it cannot be read.
#[inline(always)]
fn word(address: u64) -> u64 {
    if settings!(features) & CAST != 0 {
        Pointer::cast(address, settings!(casts.word)).load(0)
    } else {
        Pointer::untyped(address).load(0)
    }
}

/// A piece of kernel memory, copied to the stack by one read.
struct Window<const WORDS: usize>(MaybeUninit<[u64; WORDS]>);

impl<const WORDS: usize> Window<WORDS> {
    #[inline(always)]
    fn read(address: u64, len: u32) -> Self {
        let mut window = Self(MaybeUninit::uninit());
        // SAFETY: the helper checks the address, and clears the window if it cannot be read; the
        // verifier rejects a `len` larger than the window.
        unsafe { probe_read_kernel(window.0.as_mut_ptr().cast(), len, address as *const _) };
        window
    }

    #[inline(always)]
    fn get<T: Copy>(&self, offset: u32) -> T {
        let window = self.0.as_ptr().cast::<u8>();
        // SAFETY: the verifier rejects an offset outside of the window.
        unsafe { window.wrapping_add(offset as usize).cast::<T>().read() }
    }
}
