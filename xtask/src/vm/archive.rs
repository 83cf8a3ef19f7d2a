//! Debian's archive, by an apt state of its own: the system's lists, caches and sources stay as
//! they are. All of it is in one directory, which may be deleted at any time.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    SHELL,
    kernels::{self, Package},
};
use crate::{
    cache,
    shell::{describe, say},
    toolchain::output,
};

/// The keys that all of Debian's suites are signed with.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the kernels are: below `http://deb.debian.org`, and the suite.
const SUITES: [(&str, &str); 6] = [
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
    ("debian", "sid"),
];

/// The image in a package: `boot/vmlinuz-VERSION`, or of recent ones `usr/lib/modules/VERSION/vmlinuz`.
const IMAGE: &str = "*/vmlinuz*";

/// Lists that are younger than this are not fetched again.
const LISTS_LAST: Duration = Duration::from_secs(24 * 60 * 60);
/// Nothing that is fetched takes longer, unless it hangs.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The lists of packages, and the kernels got so far.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) dir: PathBuf,
}

impl Archive {
    /// Makes the directory, with an apt configuration that keeps to it.
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

    /// All kernels there are, with lists that are not too old. Old lists do where no others can
    /// be had.
    pub(super) fn kernels(&self) -> Result<Vec<Package>> {
        let updated = self.dir.join("updated");
        let age = fs::metadata(&updated).and_then(|stamp| stamp.modified());
        let fresh = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < LISTS_LAST));
        if !fresh {
            say("fetches Debian's lists of packages, into a directory of its own");
            match SHELL.run_within(FETCH_LIMIT, self.apt("apt-get").args(["-q", "update"])) {
                Ok(()) => fs::write(&updated, "")
                    .with_context(|| format!("cannot write {}", updated.display()))?,
                Err(error) => say(format!("{error}; goes on with the lists there are")),
            }
        }
        let pattern = r"^linux-(image|binary)-.*-cloud-amd64(-unsigned)?$";
        let found =
            output(
                self.apt("apt-cache")
                    .args(["search", "--full", "--names-only", pattern]),
            )
            .map_err(anyhow::Error::msg)
            .context("cannot read the lists of packages")?;
        let packages = kernels::parse(&found);
        if packages.is_empty() {
            bail!(
                "Debian's lists of packages have no kernels: is http://deb.debian.org reachable? \
                 If so, delete {} and try again",
                self.dir.display()
            );
        }
        Ok(packages)
    }

    /// Where the image of `package` is, once it is here.
    pub(super) fn image(&self, package: &Package) -> PathBuf {
        let name = format!("{}_{}.vmlinuz", package.name, package.version);
        self.dir.join("kernels").join(name)
    }

    /// Downloads `package`, which apt verifies, and keeps the image in it.
    pub(super) fn download(&self, package: &Package) -> Result<()> {
        // Its own, for two may be at it at once, and what one leaves must not be taken for whole.
        let dir = self.dir.join(format!("download-{}", process::id()));
        let made = fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()));
        let done = made.and_then(|()| self.download_in(&dir, package));
        // If it stays there, it is in nobody's way.
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
        fs::rename(&image, self.image(package)).context("cannot keep the kernel")
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

/// Writes the kernel's image in the package `deb` to `image`.
fn extract(deb: &Path, image: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--fsys-tarfile").arg(deb);
    let mut pick = Command::new("tar");
    pick.args(["--extract", "--to-stdout", "--wildcards", IMAGE]);
    say(format!("{} | {}", describe(&unpack), describe(&pick)));
    let mut unpack = unpack
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let tar = unpack.stdout.take().context("dpkg-deb has no output")?;
    let picked = pick.stdin(tar).stdout(File::create(image)?).status();
    let unpacked = unpack.wait()?;
    if !picked.context("cannot run tar")?.success() || !unpacked.success() {
        bail!("there is no {IMAGE} in {}", deb.display());
    }
    // As it is where only a link goes by this name.
    if fs::metadata(image)?.len() == 0 {
        bail!("{IMAGE} in {} is empty", deb.display());
    }
    Ok(())
}

fn sources() -> String {
    // Nothing but the lists of packages: no translations, and none of what the system's
    // configuration wants besides.
    let options = format!("arch=amd64 lang=none target=Packages signed-by={KEYRING}");
    let line = |(archive, suite)| {
        format!("deb [{options}] http://deb.debian.org/{archive} {suite} main\n")
    };
    SUITES.map(line).concat()
}

/// Read after the system's configuration, of which it leaves the proxies.
fn configuration(dir: &Path) -> String {
    format!(
        r#"// What others want done after an update is about the system's lists.
#clear APT::Update;
#clear DPkg;
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
// A user of its own, to which apt changes if it is run by root, cannot read in root's home.
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
    fn nothing_of_the_systems_state_is_left() {
        let configuration = configuration(Path::new("/cache"));
        for place in ["Dir::State::lists", "Dir::Cache::archives", "Dir::State"] {
            assert!(configuration.contains(&format!("{place} \"/cache")));
        }
    }
}
