//! Chooses kernels.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Result, bail};
use xtask_support::shell::info;

use super::{
    archive::Archive,
    packages::{Package, numbers},
};

/// The series that are tested, oldest first: those with long-term support, and the newest kernels.
const SERIES: [&[u32]; 6] = [&[5, 10], &[6, 1], &[6, 12], &[6, 18], &[6], &[7]];

/// A request from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// The newest of each series.
    All,
    /// The newest kernel whose version starts with these numbers.
    Series(Vec<u32>),
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        match numbers(text.strip_suffix(".x").unwrap_or(text)) {
            Some(series) => Ok(Self::Series(series)),
            None => bail!("expected `all` or a version such as 6.1, 6.12.107 or 6.x"),
        }
    }
}

/// A downloaded kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) image: PathBuf,
}

/// Downloads the requested kernels; without a request, the oldest and the newest.
pub(super) fn get(archive: &Archive, requests: &[Request]) -> Result<Vec<Kernel>> {
    let packages = archive.kernels()?;
    let get = |series: &[u32]| newest(&packages, series, |package| image(archive, package));
    let mut kernels: Vec<Kernel> = if requests.is_empty() {
        let oldest = SERIES.iter().find_map(|series| get(series));
        let newest = SERIES.iter().rev().find_map(|series| get(series));
        oldest.into_iter().chain(newest).collect()
    } else {
        requested(requests).into_iter().filter_map(get).collect()
    };
    // The newest 6.x may be the newest 6.18.
    let mut seen = Vec::new();
    kernels.retain(|kernel| {
        let new = !seen.contains(&kernel.release);
        seen.push(kernel.release.clone());
        new
    });
    if kernels.is_empty() {
        bail!(
            "none of the requested kernels is available; is http://deb.debian.org reachable? `--kernel all` \
             selects the available ones"
        );
    }
    kernels.sort_by_key(|kernel| numbers(&kernel.release));
    Ok(kernels)
}

fn requested(requests: &[Request]) -> Vec<&[u32]> {
    let series = |request| match request {
        &Request::All => SERIES.to_vec(),
        Request::Series(series) => vec![series.as_slice()],
    };
    requests.iter().flat_map(series).collect()
}

/// Returns the newest kernel of `series` that can be downloaded. Lists may name packages that are gone.
fn newest(
    packages: &[Package],
    series: &[u32],
    mut get: impl FnMut(&Package) -> Result<PathBuf>,
) -> Option<Kernel> {
    let candidates = packages
        .iter()
        .filter(|package| package.release.starts_with(series));
    for package in candidates {
        match get(package) {
            Ok(image) => {
                return Some(Kernel {
                    release: package.release(),
                    image,
                });
            }
            Err(error) => info(format!(
                "{} {}: {error:#}; trying the next",
                package.name, package.version
            )),
        }
    }
    let numbers: Vec<_> = series.iter().map(u32::to_string).collect();
    info(format!(
        "SKIPPED: Debian has no kernel {}",
        numbers.join(".")
    ));
    None
}

/// Returns the image of `package`, downloaded if necessary.
fn image(archive: &Archive, package: &Package) -> Result<PathBuf> {
    let image = archive.image(package);
    if !image.exists() {
        archive.download(package)?;
    }
    Ok(image)
}

#[cfg(test)]
mod tests;
