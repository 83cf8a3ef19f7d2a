//! The packages and their target systems.

use std::path::PathBuf;

/// Rust's name of the target.
pub(super) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The oldest supported glibc: that of Debian 11. Ubuntu 20.04 has 2.31, RHEL 9 has 2.34.
pub(super) const GLIBC: (u32, u32) = (2, 31);

/// The built packages.
#[derive(Debug)]
pub(super) struct Packages {
    pub(super) version: String,
    pub(super) deb: PathBuf,
    pub(super) tarball: PathBuf,
}
