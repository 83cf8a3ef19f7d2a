//! Arguments that most commands share.

use clap::Args;
use fdwatch_render::Format;

/// Output format.
#[derive(Debug, Args)]
pub struct Output {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

impl Output {
    /// Returns the format.
    #[must_use]
    pub const fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}

/// Source of descriptors: the kernel, through BPF, or /proc.
#[derive(Debug, Args)]
pub struct Source {
    /// Read /proc instead of loading BPF programs
    ///
    /// Slower and less exact, but needs no privileges for your own processes.
    #[arg(long)]
    pub proc: bool,
}
