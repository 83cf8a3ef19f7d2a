//! Debian's packages with kernel images.

/// Minimum size of a package with an image, in bytes. Metapackages have about 2 kB.
const MIN_IMAGE_BYTES: u64 = 1 << 20;

/// A package with the image of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    /// Debian's version, such as `6.1.180-1~deb11u1`.
    pub(super) version: String,
    /// The kernel's version, such as 6.1.180.
    pub(super) release: Vec<u32>,
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

    /// Returns the kernel's version as text.
    pub(super) fn release(&self) -> String {
        let numbers: Vec<_> = self.release.iter().map(u32::to_string).collect();
        numbers.join(".")
    }
}

/// Returns the kernels in the output of `apt-cache search --full`, newest first, signed before unsigned.
pub(super) fn parse(records: &str) -> Vec<Package> {
    let field = |record: &str, name: &str| {
        let value = |line: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
        record.lines().find_map(value)
    };
    let package = |record: &str| {
        let size: u64 = field(record, "Size:")?.parse().ok()?;
        let name = field(record, "Package:")?;
        let package = Package::new(&name, &field(record, "Version:")?)?;
        (size >= MIN_IMAGE_BYTES).then_some(package)
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

/// Returns the numbers of a version such as `6.1.180`.
pub(super) fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}
