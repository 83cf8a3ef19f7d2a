//! Which kernels there are, and which are taken.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Result, bail};

use super::archive::Archive;
use crate::shell::say;

/// What is taken, oldest first: the series that are maintained for long, and the newest kernels.
const SERIES: [&[u32]; 6] = [&[5, 10], &[6, 1], &[6, 12], &[6, 18], &[6], &[7]];

/// A package without an image in it has some 2 kB, as others depend on the one that has.
const SMALLEST_IMAGE: u64 = 1 << 20;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// The newest of each series.
    All,
    /// The newest kernel whose version begins so.
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
            None => bail!("neither `all` nor a version such as 6.1, 6.12.107 or 6.x"),
        }
    }
}

/// A package with the image of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    /// Debian's version, such as `6.1.180-1~deb11u1`.
    pub(super) version: String,
    /// The kernel's version, such as 6.1.180.
    release: Vec<u32>,
}

impl Package {
    fn new(name: &str, version: &str) -> Option<Self> {
        let kind = name.strip_prefix("linux-")?;
        if !kind.starts_with("image-") && !kind.starts_with("binary-") {
            return None;
        }
        let signed = name.strip_suffix("-unsigned").unwrap_or(name);
        signed.strip_suffix("-cloud-amd64")?;
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            release: numbers(version.split('-').next()?)?,
        })
    }

    /// The kernel's version as it is written.
    fn release(&self) -> String {
        let numbers: Vec<_> = self.release.iter().map(u32::to_string).collect();
        numbers.join(".")
    }
}

/// A kernel that is here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) image: PathBuf,
}

/// The kernels in what `apt-cache search --full` prints, newest first, and signed before unsigned.
pub(super) fn parse(records: &str) -> Vec<Package> {
    let field = |record: &str, name: &str| {
        let value = |line: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
        record.lines().find_map(value)
    };
    let package = |record: &str| {
        let size: u64 = field(record, "Size:")?.parse().ok()?;
        let name = field(record, "Package:")?;
        let package = Package::new(&name, &field(record, "Version:")?)?;
        (size >= SMALLEST_IMAGE).then_some(package)
    };
    let mut packages: Vec<_> = records.split("\n\n").filter_map(package).collect();
    packages.sort_by(|a, b| {
        let unsigned = |package: &Package| package.name.contains("-unsigned");
        (b.release.cmp(&a.release))
            .then_with(|| unsigned(a).cmp(&unsigned(b)))
            .then_with(|| b.version.cmp(&a.version))
    });
    packages
}

/// Gets the kernels asked for; without a request, the oldest and the newest.
pub(super) fn get(archive: &Archive, requests: &[Request]) -> Result<Vec<Kernel>> {
    let packages = archive.kernels()?;
    let get = |series: &[u32]| newest(&packages, series, |package| here(archive, package));
    let mut kernels: Vec<Kernel> = if requests.is_empty() {
        let oldest = SERIES.iter().find_map(|series| get(series));
        let newest = SERIES.iter().rev().find_map(|series| get(series));
        oldest.into_iter().chain(newest).collect()
    } else {
        wanted(requests).into_iter().filter_map(get).collect()
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
            "none of these kernels can be had; is http://deb.debian.org reachable? `--kernel all` \
             takes what there is"
        );
    }
    kernels.sort_by_key(|kernel| numbers(&kernel.release));
    Ok(kernels)
}

fn wanted(requests: &[Request]) -> Vec<&[u32]> {
    let series = |request| match request {
        &Request::All => SERIES.to_vec(),
        Request::Series(series) => vec![series.as_slice()],
    };
    requests.iter().flat_map(series).collect()
}

/// The newest kernel of `series` that can be had: some that are listed are gone.
fn newest(
    packages: &[Package],
    series: &[u32],
    mut here: impl FnMut(&Package) -> Result<PathBuf>,
) -> Option<Kernel> {
    let candidates = packages
        .iter()
        .filter(|package| package.release.starts_with(series));
    for package in candidates {
        match here(package) {
            Ok(image) => {
                return Some(Kernel {
                    release: package.release(),
                    image,
                });
            }
            Err(error) => say(format!(
                "{} {}: {error:#}; tries the next",
                package.name, package.version
            )),
        }
    }
    let numbers: Vec<_> = series.iter().map(u32::to_string).collect();
    say(format!(
        "SKIPPED: Debian has no kernel {} now",
        numbers.join(".")
    ));
    None
}

fn here(archive: &Archive, package: &Package) -> Result<PathBuf> {
    let image = archive.image(package);
    if !image.exists() {
        archive.download(package)?;
    }
    Ok(image)
}

fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
