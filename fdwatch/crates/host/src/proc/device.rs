//! Device numbers in the kernel's encoding.

use std::{
    fs::File,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
};

use fdwatch_core::model::AnonymousDevices;

/// Returns the device numbers of anonymous inodes: of event descriptors, and of pidfds.
#[must_use]
pub fn anonymous_devices() -> AnonymousDevices {
    // SAFETY: the calls only take numbers, and nothing else owns the descriptors they return.
    let (event, process) = unsafe {
        (
            owned(libc::eventfd(0, libc::EFD_CLOEXEC).into()),
            owned(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)),
        )
    };
    AnonymousDevices([event, process].map(|fd| {
        let metadata = fd.and_then(|fd| File::from(fd).metadata().ok());
        metadata.map_or(0, |metadata| kernel_device(metadata.dev()))
    }))
}

/// Takes ownership of the descriptor that a system call returned; none for an error.
///
/// # Safety
///
/// Nothing else may own or close it.
unsafe fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the descriptor is open, and the caller guarantees that nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Converts a device number from the encoding of user space to the kernel's: `MKDEV`,
/// include/linux/kdev_t.h.
#[must_use]
pub fn kernel_device(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

/// Returns the major and minor number of a device in the kernel's encoding.
#[must_use]
pub const fn major_minor(device: u32) -> (u32, u32) {
    (device >> 20, device & ((1 << 20) - 1))
}

/// Encodes a major and minor number like the kernel; none if one is out of range.
#[must_use]
pub fn kernel_device_of((major, minor): (u32, u32)) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_device_keeps_major_and_minor() {
        assert_eq!(
            major_minor(kernel_device(libc::makedev(259, 65_536))),
            (259, 65_536)
        );
    }
}
