//! Device numbers in the encoding of the kernel (`dev_t`): the major above 20 bits of the minor.

/// A device as userspace has it, in the kernel's own encoding: `MKDEV`, include/linux/kdev_t.h.
#[must_use]
pub fn kernel_device(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

/// Major and minor of a device in the kernel's own encoding.
#[must_use]
pub const fn major_minor(device: u32) -> (u32, u32) {
    (device >> 20, device & ((1 << 20) - 1))
}

/// A device by its numbers, in the kernel's own encoding; none, if they are larger than the kernel's.
#[must_use]
pub fn kernel_device_of((major, minor): (u32, u32)) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_keep_their_numbers() {
        assert_eq!(
            major_minor(kernel_device(libc::makedev(259, 65_536))),
            (259, 65_536)
        );
    }
}
