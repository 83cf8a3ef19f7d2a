//! Device numbers in the kernel's encoding (`dev_t`): the major above 20 bits of the minor.

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
