//! Where the fields that the programs read lie in this kernel, and what it calls its types, from its
//! BTF. There are no offsets of our own: rustc emits no CO-RE relocations, and a wrong offset gives
//! wrong numbers without any error. How BTF is read is not known here.

use fdwatch_common::{Casts, FileWindow, MAX_FILE_WINDOW, MAX_INODE_WINDOW, Offsets};

use super::{ProbeError, btf::Types};

/// What the running kernel's BTF tells.
pub(super) struct Kernel {
    types: Types,
}

/// The structures that are asked for, and the function.
const STRUCTURES: [&str; 12] = [
    "file",
    "inode",
    "task_struct",
    "signal_struct",
    "files_struct",
    "fdtable",
    "super_block",
    "socket",
    "sock",
    "timespec64",
    "mm_struct",
    "pt_regs",
];

/// What `struct pt_regs` calls the registers that stacks are unwound by: `ip`, `sp`, `bp`, `lr` and
/// `cs`, each where it begins; bytes are added for those that are in a row without names. What a
/// processor does not have is another of them, and not looked at.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, u32); 5] = [("ip", 0), ("sp", 0), ("bp", 0), ("ip", 0), ("cs", 0)];
#[cfg(target_arch = "aarch64")]
const REGISTERS: [(&str, u32); 5] = [
    ("pc", 0),
    ("sp", 0),
    ("regs", 29 * 8),
    ("regs", 30 * 8),
    ("pc", 0),
];
/// Not known: what is told by them is not made use of.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: [(&str, u32); 5] = [("", 0); 5];
const CAST: &str = "bpf_rdonly_cast";

/// How addresses are made typed pointers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    /// Number of the function `bpf_rdonly_cast`.
    pub(super) function: u32,
    /// What they are cast to.
    pub(super) to: Casts,
}

impl Kernel {
    /// Parses `btf`, the bytes of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    ///
    /// If these bytes are no BTF.
    pub(super) fn parse(btf: Vec<u8>) -> Result<Self, ProbeError> {
        Types::parse(btf, &STRUCTURES, &[CAST])
            .map(|types| Self { types })
            .map_err(|reason| ProbeError::UnreadableBtf { reason })
    }

    /// Resolves every offset.
    ///
    /// # Errors
    ///
    /// If a field is not where it has been since 5.8.
    pub(super) fn offsets(&self) -> Result<Offsets, ProbeError> {
        offsets(&self.types)
    }

    /// Where a task's registers begin on its kernel stack; 0 where that is not known. Only asked for
    /// where the kernel does not give them itself, which is before 5.15: `task_pt_regs`,
    /// arch/x86/include/asm/processor.h.
    ///
    /// # Errors
    ///
    /// If the kernel is another than it is known to be.
    pub(super) fn registers_on_stack(&self) -> Result<u32, ProbeError> {
        /// `THREAD_SIZE`, arch/x86/include/asm/page_64_types.h: since 3.15, but twice that with KASAN,
        /// and BTF does not tell. The programs look whether what lies there is what it is to be.
        const STACK: u32 = 16 << 10;
        if !cfg!(target_arch = "x86_64") {
            return Ok(0);
        }
        // The last of them, and 8 bytes as all of them are: what is above is not there before 6.9.
        let size = field(&self.types, "pt_regs", "ss")? + 8;
        Ok(STACK - size)
    }

    /// How addresses are made typed pointers, where the kernel can do that: since 6.2.
    pub(super) fn cast(&self) -> Option<Cast> {
        let function = self.types.function(CAST)?;
        if self.types.offset("timespec64", "tv_sec")? != 0 {
            return None;
        }
        let to = Casts {
            file: self.types.structure("file")?,
            word: self.types.structure("timespec64")?,
        };
        Some(Cast { function, to })
    }
}

fn offsets(types: &Types) -> Result<Offsets, ProbeError> {
    let field = |structure, path| field(types, structure, path);
    let file = window(
        &[
            (field("file", "f_inode")?, 8),
            (field("file", "f_flags")?, 4),
        ],
        "struct file",
        MAX_FILE_WINDOW,
    )?;
    let inode = window(
        &[
            (field("inode", "i_mode")?, 2),
            (field("inode", "i_sb")?, 8),
            (field("inode", "i_ino")?, 8),
            (field("inode", "i_nlink")?, 4),
        ],
        "struct inode",
        MAX_INODE_WINDOW,
    )?;
    let [ip, sp, bp, lr, cs] = REGISTERS.map(|(name, beyond)| {
        let at = if name.is_empty() {
            Ok(0)
        } else {
            field("pt_regs", name)
        };
        at.map(|at| at + beyond)
    });
    // Of a call's, which are known on x86; the first is not at the beginning there.
    let argument = |name| types.offset("pt_regs", name).unwrap_or(0);
    Ok(Offsets {
        task_flags: field("task_struct", "flags")?,
        task_pid: field("task_struct", "pid")?,
        task_tgid: field("task_struct", "tgid")?,
        task_files: field("task_struct", "files")?,
        task_group_leader: field("task_struct", "group_leader")?,
        task_real_parent: field("task_struct", "real_parent")?,
        task_start_boottime: field("task_struct", "start_boottime")?,
        task_comm: field("task_struct", "comm")?,
        task_signal: field("task_struct", "signal")?,
        signal_live: field("signal_struct", "live.counter")?,
        files_count: field("files_struct", "count.counter")?,
        files_fdt: field("files_struct", "fdt")?,
        fdt_max_fds: field("fdtable", "max_fds")?,
        fdt_fd: field("fdtable", "fd")?,
        fdt_close_on_exec: field("fdtable", "close_on_exec")?,
        fdt_open_fds: field("fdtable", "open_fds")?,
        super_block_dev: field("super_block", "s_dev")?,
        file_private_data: field("file", "private_data")?,
        socket_sk: field("socket", "sk")?,
        sock_family: field("sock", "__sk_common.skc_family")?,
        task_stack: field("task_struct", "stack")?,
        task_mm: field("task_struct", "mm")?,
        mm_start_stack: field("mm_struct", "start_stack")?,
        registers_ip: ip?,
        registers_sp: sp?,
        registers_bp: bp?,
        registers_lr: lr?,
        registers_cs: cs?,
        registers_first: argument("di"),
        registers_second: argument("si"),
        file: FileWindow {
            file_start: file.start,
            file_len: file.len,
            f_inode: field("file", "f_inode")? - file.start,
            f_flags: field("file", "f_flags")? - file.start,
            inode_start: inode.start,
            inode_len: inode.len,
            i_mode: field("inode", "i_mode")? - inode.start,
            i_sb: field("inode", "i_sb")? - inode.start,
            i_ino: field("inode", "i_ino")? - inode.start,
            i_nlink: field("inode", "i_nlink")? - inode.start,
        },
    })
}

/// A piece of a structure to be read at once.
struct Window {
    start: u32,
    len: u32,
}

/// The piece, aligned to 8 bytes at both ends, that holds all of `fields`: offset and size of each.
fn window(fields: &[(u32, u32)], name: &str, most: usize) -> Result<Window, ProbeError> {
    let start = fields.iter().map(|field| field.0).min().unwrap_or(0) & !7;
    let end = fields.iter().map(|field| field.0 + field.1).max();
    let end = end.unwrap_or(0).next_multiple_of(8);
    let len = end - start;
    if len as usize > most {
        return Err(ProbeError::UnknownKernel {
            what: format!("the fields of {name} lie {len} bytes apart"),
        });
    }
    Ok(Window { start, len })
}

fn field(types: &Types, structure: &str, path: &str) -> Result<u32, ProbeError> {
    types
        .offset(structure, path)
        .ok_or_else(|| ProbeError::UnknownKernel {
            what: format!("its BTF has no field {structure}.{path}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_is_known() {
        // Without BTF there is nothing to resolve against, and the tests that need it say so.
        let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let kernel = Kernel::parse(btf).unwrap();
        let offsets = kernel.offsets().unwrap();
        assert_eq!(offsets.task_tgid, offsets.task_pid + 4);
        assert!(offsets.file.file_len >= 16, "{offsets:?}");
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        for bytes in [b"\x9f\xeb\x01".to_vec(), Vec::new()] {
            let error = Kernel::parse(bytes).err().unwrap();
            assert!(matches!(error, ProbeError::UnreadableBtf { .. }), "{error}");
        }
    }

    #[test]
    fn windows_are_aligned_and_bounded() {
        let Window { start, len } = window(&[(36, 4), (12, 4)], "x", 64).unwrap();
        assert_eq!((start, len), (8, 32));
        assert!(window(&[(0, 8), (64, 2)], "x", 64).is_err());
    }
}
