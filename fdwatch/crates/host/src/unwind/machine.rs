//! framehop's types for the architecture of this host.

#[cfg(target_arch = "aarch64")]
pub(super) use framehop::aarch64::{
    CacheAarch64 as Cache, UnwindRegsAarch64 as Registers, UnwinderAarch64 as Unwinder,
};
#[cfg(target_arch = "x86_64")]
pub(super) use framehop::x86_64::{
    CacheX86_64 as Cache, UnwindRegsX86_64 as Registers, UnwinderX86_64 as Unwinder,
};

/// Converts the registers of a record.
#[cfg(target_arch = "aarch64")]
pub(super) fn registers(it: &fdwatch_common::Registers) -> Registers {
    Registers::new(it.lr, it.sp, it.bp)
}

/// Converts the registers of a record.
#[cfg(target_arch = "x86_64")]
pub(super) fn registers(it: &fdwatch_common::Registers) -> Registers {
    Registers::new(it.ip, it.sp, it.bp)
}
