//! Values of options: CPU budget, detail, size of the ring, and the target of an explanation.

use std::{fmt, str::FromStr};

use clap::ValueEnum;
use fdwatch_core::ring::MAX_RING_BYTES;

use crate::parse;

/// Share of one processor, in percent: above 0, up to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxCpu(pub f64);

impl FromStr for MaxCpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('%').parse() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err("expected a percentage above 0 and up to 100".to_owned()),
        }
    }
}

impl fmt::Display for MaxCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Processes whose stacks and requested paths are collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// No process
    Never,
    /// Processes with findings or a growing number of descriptors
    Suspects,
    /// All processes: several times the cost, for them and for fdwatch
    All,
}

impl Detail {
    /// Returns the name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Suspects => "suspects",
            Self::All => "all",
        }
    }
}

/// Size of the ring, in bytes: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(pub u32);

impl FromStr for RingSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = parse::size(text).ok_or("expected a size such as 512K or 64M")?;
        // 4 KiB is the smallest page size. Kernels with larger pages reject smaller rings.
        u32::try_from(bytes)
            .ok()
            .filter(|bytes| bytes.is_power_of_two() && (4096..=MAX_RING_BYTES).contains(bytes))
            .map(Self)
            .ok_or_else(|| "expected a power of two from 4K to 1G".to_owned())
    }
}

impl fmt::Display for RingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes => write!(f, "{}K", bytes >> 10),
        }
    }
}

/// Descriptor or file that an explanation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A descriptor's number.
    Fd(u32),
    /// An absolute path.
    Path(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(fd) = text.parse() {
            return Ok(Self::Fd(fd));
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.to_owned()));
        }
        std::path::absolute(text)
            .ok()
            .and_then(|path| path.into_os_string().into_string().ok())
            .map(Self::Path)
            .ok_or_else(|| "expected a descriptor number or a path".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_cpu_is_a_positive_percentage() {
        assert_eq!("0.5".parse(), Ok(MaxCpu(0.5)));
        assert_eq!("2%".parse(), Ok(MaxCpu(2.0)));
        for wrong in ["", "0", "-1", "101", "NaN", "inf", "some"] {
            assert!(wrong.parse::<MaxCpu>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ring_size_is_a_power_of_two_in_range() {
        assert_eq!("8M".parse(), Ok(RingSize(8 << 20)));
        assert_eq!("65536".parse(), Ok(RingSize(65_536)));
        for wrong in ["", "M", "3M", "2K", "8X", "4G", "-1"] {
            assert!(wrong.parse::<RingSize>().is_err(), "{wrong}");
        }
    }
}
