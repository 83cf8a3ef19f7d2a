//! Resources that fdwatch itself has used.

/// What this process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in its own code, in seconds.
    pub user: f64,
    /// Processor time in the kernel, in seconds.
    pub system: f64,
    /// Most memory it had at once, in bytes.
    pub peak_rss: u64,
}
