//! Resources that fdwatch itself has used.

/// The resources that this process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time in user space, in seconds.
    pub user: f64,
    /// CPU time in the kernel, in seconds.
    pub system: f64,
    /// Maximum resident memory, in bytes.
    pub peak_rss: u64,
}
