//! Device numbers of anonymous inodes.

use std::{
    fs::File,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
};

use fdwatch_core::{device::kernel_device, model::AnonymousDevices};

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

/// Takes ownership of the descriptor that a system call returned; returns `None` if the call failed.
///
/// # Safety
///
/// Nothing else may own or close it.
unsafe fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the descriptor is open, and the caller guarantees that nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
