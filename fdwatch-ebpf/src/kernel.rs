//! The kernel's structures: the only place that knows where things lie, and how they are read. What
//! is told of these is not known here.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_probe_read_kernel,
    generated::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel as probe_read_kernel,
        bpf_task_pt_regs,
    },
};
use fdwatch_common::{
    BTF_TASK, CAST, CAST_CALL, DETAIL, INHERITED, MAX_FILE_WINDOW, MAX_INODE_WINDOW, NOT_FOLLOWED,
    Payload, STOPPED, Settings, TASK_REGISTERS,
};

use crate::control::{asked_of, is_stopped};

/// Written by the loader. Read through [`settings!`] only.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::ZERO;

/// Reads one of the [`Settings`]. Volatile, because the compiler would otherwise take the value it
/// sees here for the one the program is loaded with.
macro_rules! settings {
    ($($field:ident).+) => {
        // SAFETY: a reference to a static is valid for reads.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::kernel::SETTINGS.$($field).+) }
    };
}
pub(crate) use settings;

/// A pointer into the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Pointer {
    address: *const u8,
    /// The verifier knows its type, so that the fields it points at can be loaded.
    typed: bool,
}

impl Pointer {
    /// A pointer whose type the verifier knows.
    #[inline(always)]
    pub(crate) const fn typed(address: *const u8) -> Self {
        Self {
            address,
            typed: true,
        }
    }

    /// An address as a pointer to the structure of that number. Only where there is [`CAST`].
    #[inline(always)]
    pub(crate) fn cast(address: u64, structure: u32) -> Self {
        // SAFETY: what the loader puts in the place of this call is `bpf_rdonly_cast`, which is of
        // this type and leaves it to each load to check the address.
        let cast: unsafe extern "C" fn(u64, u32) -> *const u8 =
            unsafe { core::mem::transmute(CAST_CALL as usize) };
        // SAFETY: as above.
        Self::typed(unsafe { cast(address, structure) })
    }

    /// Of which only the address is known.
    #[inline(always)]
    pub(crate) const fn untyped(address: u64) -> Self {
        Self {
            address: address as *const u8,
            typed: false,
        }
    }

    /// The number that the pointer is.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.address as u64
    }

    /// The field at `offset`; zero where it cannot be read.
    #[inline(always)]
    pub(crate) fn load<T: Copy + Default>(self, offset: u32) -> T {
        let field = self.address.wrapping_add(offset as usize).cast::<T>();
        // SAFETY: a typed pointer is loaded from as the verifier allows, and a load through a stale
        // one reads zero; the helper checks all other addresses.
        unsafe {
            if self.typed {
                *field
            } else {
                bpf_probe_read_kernel(field).unwrap_or_default()
            }
        }
    }

    /// The pointer at `offset`.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> Self {
        // Loaded as what it is: a pointer that went through an integer is the same to the verifier,
        // but not to the compiler.
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

/// Who does it.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    /// What is asked of it, where that was looked at.
    pub(crate) asked: u32,
}

impl Caller {
    /// Whether stacks and paths are wanted.
    #[inline(always)]
    pub(crate) fn is_in_detail(self) -> bool {
        self.asked & DETAIL != 0
    }

    /// Whether they are, of closes as well.
    #[inline(always)]
    pub(crate) fn is_in_detail_of_closes(self) -> bool {
        self.asked & (DETAIL | INHERITED) == DETAIL
    }
}

/// The current thread, unless it is one of fdwatch's own, or nothing is to be told any more.
#[inline(always)]
pub(crate) fn caller() -> Option<Caller> {
    if is_stopped() {
        return None;
    }
    any_caller()
}

/// The same, unless it is of a process that is not followed: for what is called often. Elsewhere it
/// does no harm, and is not worth what it takes to verify.
#[inline(always)]
pub(crate) fn followed_caller() -> Option<Caller> {
    let caller = any_caller()?;
    let asked = asked_of(caller.tgid);
    (asked & (NOT_FOLLOWED | STOPPED) == 0).then_some(Caller { asked, ..caller })
}

#[inline(always)]
fn any_caller() -> Option<Caller> {
    let both = bpf_get_current_pid_tgid();
    let caller = Caller {
        tid: both as u32,
        tgid: (both >> 32) as u32,
        asked: 0,
    };
    (caller.tgid != settings!(own_tgid)).then_some(caller)
}

/// The descriptor table of the current thread.
#[inline(always)]
pub(crate) fn current_table() -> Table {
    current_task().table()
}

/// Whether there are others in the current thread's process.
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

/// `PF_KTHREAD`, include/linux/sched.h: the same bit since 2.6.27.
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

    /// The one its process began with.
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

    /// How many threads of its process have not begun to exit.
    #[inline(always)]
    pub(crate) fn live_threads(self) -> i32 {
        let signal = self.0.follow(settings!(offsets.task_signal));
        signal.load(settings!(offsets.signal_live))
    }

    /// Address of its descriptor table: none in a task that has given it back.
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

/// What a thread had in its registers as it entered the kernel.
#[derive(Clone, Copy)]
pub(crate) struct UserRegisters {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
    pub(crate) lr: u64,
    /// The first two arguments, where these are known.
    pub(crate) arguments: [u64; 2],
}

/// `__USER_CS`, arch/x86/include/asm/segment.h: the same since 2.6.
const USER_CS: u16 = 0x33;

impl UserRegisters {
    /// Those of the current thread, where the kernel gives a way to them. In a syscall only.
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        let task = current_task();
        if settings!(features) & TASK_REGISTERS != 0 {
            // SAFETY: the pointer is of the type that the helper takes.
            let registers = unsafe { bpf_task_pt_regs(task.0.address.cast_mut().cast()) };
            return Some(Self::at(Pointer::typed(registers as *const u8)));
        }
        let begin = settings!(registers_on_stack);
        if begin == 0 {
            return None;
        }
        let stack: u64 = task.0.load(settings!(offsets.task_stack));
        let registers = Pointer::untyped(stack.wrapping_add(begin.into()));
        // How large the stack is was not told: what lies there must look like it.
        let cs: u16 = registers.load(settings!(offsets.registers_cs));
        (cs == USER_CS).then(|| Self::at(registers))
    }

    /// Whether arguments are known at the exit of a call: where they are not, the offsets are those of
    /// nothing.
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

/// Where the stack begins that the current process was started with: what it was started with is
/// beyond.
#[inline(always)]
pub(crate) fn first_stack() -> u64 {
    let mm = current_task().0.follow(settings!(offsets.task_mm));
    mm.load(settings!(offsets.mm_start_stack))
}

/// A descriptor table: `struct files_struct`, and its `struct fdtable` of now.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    files: Pointer,
    fdt: Pointer,
}

impl Table {
    /// The same table, as it is by now.
    #[inline(always)]
    pub(crate) fn again(self) -> Self {
        Self {
            fdt: self.files.follow(settings!(offsets.files_fdt)),
            ..self
        }
    }

    /// The table's identity.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.files.address()
    }

    /// Whether more than one task holds it.
    #[inline(always)]
    pub(crate) fn is_shared(self) -> bool {
        self.files.load::<i32>(settings!(offsets.files_count)) > 1
    }

    /// How many numbers there is room for.
    #[inline(always)]
    pub(crate) fn capacity(self) -> u32 {
        self.fdt.load(settings!(offsets.fdt_max_fds))
    }

    /// What `fd` refers to, if it is open.
    #[inline(always)]
    pub(crate) fn file(self, fd: u32) -> Option<File> {
        match self.file_address(fd) {
            0 => None,
            file => Some(File(file)),
        }
    }

    /// Address of what `fd` refers to; 0, if it is not open. For what is told in either case: of an
    /// option, the compiler leaves the value unwritten on the stack, which 5.10's verifier refuses.
    #[inline(always)]
    pub(crate) fn file_address(self, fd: u32) -> u64 {
        if fd >= self.capacity() {
            return 0;
        }
        let slots = self.fdt.load::<u64>(settings!(offsets.fdt_fd));
        word(slots.wrapping_add(u64::from(fd) * 8))
    }

    /// Whether `fd`, which there is room for, closes on exec.
    #[inline(always)]
    pub(crate) fn closes_on_exec(self, fd: u32) -> bool {
        let words = self.bitmap(settings!(offsets.fdt_close_on_exec));
        word(words.wrapping_add(u64::from(fd / 64) * 8)) >> (fd % 64) & 1 != 0
    }

    /// Address of the bitmap of open numbers.
    #[inline(always)]
    pub(crate) fn open_bitmap(self) -> u64 {
        self.bitmap(settings!(offsets.fdt_open_fds))
    }

    /// Address of the bitmap of numbers that close on exec.
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

/// include/uapi/asm-generic/fcntl.h; the same wherever there is BPF.
const O_PATH: u32 = 0o10_000_000;

impl File {
    /// Whether it was opened for neither reading nor writing.
    #[inline(always)]
    pub(crate) fn is_only_a_path(self) -> bool {
        let flags = settings!(offsets.file.file_start) + settings!(offsets.file.f_flags);
        Pointer::untyped(self.0).load::<u32>(flags) & O_PATH != 0
    }

    /// Whether it is a socket that descriptors may come over.
    #[inline(always)]
    pub(crate) fn is_unix_socket(self) -> bool {
        let window = settings!(offsets.file.file_start);
        let file = Pointer::untyped(self.0);
        let inode = file.follow(window + settings!(offsets.file.f_inode));
        let mode =
            inode.load::<u16>(settings!(offsets.file.inode_start) + settings!(offsets.file.i_mode));
        // What a file's private data is depends on its type.
        mode & S_IFMT == S_IFSOCK
            && file
                .follow(settings!(offsets.file_private_data))
                .follow(settings!(offsets.socket_sk))
                .load::<u16>(settings!(offsets.sock_family))
                == AF_UNIX
    }

    /// What it is open on: by loads, where they can be.
    #[inline(always)]
    pub(crate) fn payload(self) -> Payload {
        if settings!(features) & CAST == 0 {
            self.read_payload()
        } else {
            payload(Pointer::cast(self.0, settings!(casts.file)))
        }
    }

    /// The same by one read for the file, one for the inode, and one for the device: slower to run,
    /// and faster to verify, for the verifier looks each field up.
    #[inline(always)]
    pub(crate) fn read_payload(self) -> Payload {
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

/// What `file`, whose type the verifier knows, is open on.
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

/// The 64-bit integer at an address; zero where it cannot be read.
#[inline(always)]
fn word(address: u64) -> u64 {
    if settings!(features) & CAST != 0 {
        Pointer::cast(address, settings!(casts.word)).load(0)
    } else {
        Pointer::untyped(address).load(0)
    }
}

/// A piece of kernel memory, copied to the stack in one go.
struct Window<const WORDS: usize>(MaybeUninit<[u64; WORDS]>);

impl<const WORDS: usize> Window<WORDS> {
    #[inline(always)]
    fn read(address: u64, len: u32) -> Self {
        let mut window = Self(MaybeUninit::uninit());
        // SAFETY: the helper checks the address, and clears the window where it cannot be read; the
        // verifier refuses a `len` that is more than the window holds.
        unsafe { probe_read_kernel(window.0.as_mut_ptr().cast(), len, address as *const _) };
        window
    }

    #[inline(always)]
    fn get<T: Copy>(&self, offset: u32) -> T {
        let window = self.0.as_ptr().cast::<u8>();
        // SAFETY: the verifier refuses an offset outside of what was read.
        unsafe { window.wrapping_add(offset as usize).cast::<T>().read() }
    }
}
