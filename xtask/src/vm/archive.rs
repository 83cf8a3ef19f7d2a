//! Debian's archive, through apt with separate state: the system's lists, caches and sources stay unchanged. All of it
//! is in one directory, which may be deleted at any time.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    cache,
    shell::{SHELL, describe, info, output},
};

use super::packages::{self, Package};

/// The keys that sign all of Debian's suites.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Sources of kernels: the archive below `http://deb.debian.org`, and the suite.
const SUITES: [(&str, &str); 6] = [
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
    ("debian", "sid"),
];

/// The image in a package: `boot/vmlinuz-VERSION`, in recent ones `usr/lib/modules/VERSION/vmlinuz`.
const IMAGE: &str = "*/vmlinuz*";

/// Maximum age of the package lists before they are updated.
const MAX_LIST_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Timeout of one download.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The package lists and the downloaded kernels.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) dir: PathBuf,
}

impl Archive {
    /// Creates the directory and its apt configuration.
    pub(super) fn open() -> Result<Self> {
        let archive = Self {
            dir: cache::directory("fdwatch-vm")?,
        };
        archive
            .make()
            .with_context(|| format!("cannot write in {}", archive.dir.display()))?;
        Ok(archive)
    }

    fn make(&self) -> io::Result<()> {
        for dir in ["lists/partial", "archives/partial", "kernels"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        fs::write(self.dir.join("sources.list"), sources())?;
        fs::write(self.dir.join("status"), "")?;
        fs::write(self.dir.join("apt.conf"), configuration(&self.dir))
    }

    /// Returns all kernels in the archive. Updates the lists if they are old, and uses old lists if that fails.
    pub(super) fn kernels(&self) -> Result<Vec<Package>> {
        let updated = self.dir.join("updated");
        let age = fs::metadata(&updated).and_then(|stamp| stamp.modified());
        let fresh = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < MAX_LIST_AGE));
        if !fresh {
            info("downloading Debian's package lists");
            match SHELL.run_within(FETCH_LIMIT, self.apt("apt-get").args(["-q", "update"])) {
                Ok(()) => fs::write(&updated, "")
                    .with_context(|| format!("cannot write {}", updated.display()))?,
                Err(error) => info(format!("{error}; using the lists of an earlier run")),
            }
        }
        let pattern = r"^linux-(image|binary)-.*-cloud-amd64(-unsigned)?$";
        let found =
            output(
                self.apt("apt-cache")
                    .args(["search", "--full", "--names-only", pattern]),
            )
            .context("cannot read the package lists")?;
        let packages = packages::parse(&found);
        if packages.is_empty() {
            bail!(
                "no kernels in Debian's package lists: is http://deb.debian.org reachable? If so, delete {} and \
                 retry",
                self.dir.display()
            );
        }
        Ok(packages)
    }

    /// Returns the path of the image of `package`, once it is downloaded.
    pub(super) fn image(&self, package: &Package) -> PathBuf {
        let name = format!("{}_{}.vmlinuz", package.name, package.version);
        self.dir.join("kernels").join(name)
    }

    /// Downloads `package`, which apt verifies, and extracts its image.
    pub(super) fn download(&self, package: &Package) -> Result<()> {
        // A directory per process: several may run at once, and an incomplete file must not be mistaken for a
        // complete one.
        let dir = self.dir.join(format!("download-{}", process::id()));
        let made = fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()));
        let done = made.and_then(|()| self.download_in(&dir, package));
        // A leftover directory is harmless.
        let _ = fs::remove_dir_all(&dir);
        done
    }

    fn download_in(&self, dir: &Path, package: &Package) -> Result<()> {
        let wanted = format!("{}={}", package.name, package.version);
        let mut download = self.apt("apt-get");
        download.current_dir(dir).args(["-q", "download", &wanted]);
        SHELL.run_within(FETCH_LIMIT, &mut download)?;
        let deb = fs::read_dir(dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded nothing")?;
        let image = dir.join("vmlinuz");
        extract(&deb, &image)?;
        fs::rename(&image, self.image(package)).context("cannot save the kernel")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("LC_ALL", "C")
            .arg("--config-file")
            .arg(self.dir.join("apt.conf"));
        command
    }
}

/// Extracts the kernel's image from the package `deb` to `image`.
fn extract(deb: &Path, image: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--fsys-tarfile").arg(deb);
    let mut pick = Command::new("tar");
    pick.args(["--extract", "--to-stdout", "--wildcards", IMAGE]);
    info(format!("{} | {}", describe(&unpack), describe(&pick)));
    let mut unpack = unpack
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let tar = unpack.stdout.take().context("dpkg-deb has no output")?;
    let picked = pick.stdin(tar).stdout(File::create(image)?).status();
    let unpacked = unpack.wait()?;
    if !picked.context("cannot run tar")?.success() || !unpacked.success() {
        bail!("no {IMAGE} in {}", deb.display());
    }
    // Empty if the name is only a link.
    if fs::metadata(image)?.len() == 0 {
        bail!("{IMAGE} in {} is empty", deb.display());
    }
    Ok(())
}

fn sources() -> String {
    // Package lists only: no translations, and no other targets of the system's configuration.
    let options = format!("arch=amd64 lang=none target=Packages signed-by={KEYRING}");
    let line = |(archive, suite)| {
        format!("deb [{options}] http://deb.debian.org/{archive} {suite} main\n")
    };
    SUITES.map(line).concat()
}

/// Returns apt's configuration. It is read after the system's, of which only the proxies stay in effect.
fn configuration(dir: &Path) -> String {
    format!(
        r#"// Hooks after an update are for the system's lists.
#clear APT::Update;
#clear DPkg;
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
// apt's own user, which it switches to if run by root, cannot read root's home.
APT::Sandbox::User "root";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Cache::archives "{dir}/archives";
Dir::Cache::pkgcache "{dir}/pkgcache.bin";
Dir::Cache::srcpkgcache "";
"#,
        dir = dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sources_are_signed() {
        let sources = sources();
        assert_eq!(sources.lines().count(), SUITES.len());
        assert!(sources.lines().all(|line| line.contains(KEYRING)));
        assert!(sources.contains("/debian-security bullseye-security main\n"));
    }

    #[test]
    fn configuration_keeps_state_in_its_directory() {
        let configuration = configuration(Path::new("/cache"));
        for place in ["Dir::State::lists", "Dir::Cache::archives", "Dir::State"] {
            assert!(configuration.contains(&format!("{place} \"/cache")));
        }
    }
}
