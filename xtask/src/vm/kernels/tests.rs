//! Requests for kernels, and the choice among Debian's packages.

use super::{super::packages::parse, *};

fn record(name: &str, version: &str, size: u64) -> String {
    format!("Package: {name}\nSource: linux\nVersion: {version}\nDepends: kmod\nSize: {size}\n\n")
}

fn packages() -> Vec<Package> {
    let big = 20_962_008;
    let records = [
        record("linux-image-5.10.0-30-cloud-amd64", "5.10.218-1", big),
        record(
            "linux-image-5.10.0-46-cloud-amd64-unsigned",
            "5.10.262-1",
            big,
        ),
        record("linux-image-5.10.0-46-cloud-amd64", "5.10.262-1", big),
        record("linux-image-5.10.0-46-cloud-amd64-dbg", "5.10.262-1", big),
        record("linux-image-5.10.0-46-amd64", "5.10.262-1", big),
        record("linux-image-6.1-cloud-amd64", "6.1.180-1~deb11u1", 1524),
        record("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1", big),
        record(
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "6.1.180-1~deb11u1",
            big,
        ),
        record("linux-image-6.12.107+deb13-cloud-amd64", "6.12.107-1", big),
        record(
            "linux-image-6.19.14+deb13-cloud-amd64",
            "6.19.14-1~bpo13+1",
            2072,
        ),
        record(
            "linux-binary-6.19.14+deb13-cloud-amd64",
            "6.19.14-1~bpo13+1",
            big,
        ),
        record("linux-image-7.4~rc2-cloud-amd64", "7.4~rc2-1~exp1", big),
        record("linux-image-cloud-amd64", "7.2.13-1", 1708),
    ];
    parse(&records.concat())
}

fn series(text: &str) -> Vec<u32> {
    numbers(text).unwrap()
}

/// Returns the package chosen for a series, if `missing` cannot be downloaded.
fn choose(series: &[u32], missing: &[&str]) -> Option<String> {
    let get = |package: &Package| {
        if missing.contains(&package.name.as_str()) {
            bail!("404");
        }
        Ok(PathBuf::from(&package.name))
    };
    newest(&packages(), series, get).map(|kernel| kernel.image.display().to_string())
}

#[test]
fn requests_are_parsed() {
    let parse = |text: &str| text.parse::<Request>().ok();
    assert_eq!(parse("all"), Some(Request::All));
    assert_eq!(parse("6.1"), Some(Request::Series(vec![6, 1])));
    assert_eq!(parse("6.x"), Some(Request::Series(vec![6])));
    assert_eq!(parse("6.12.107"), Some(Request::Series(vec![6, 12, 107])));
    assert_eq!(parse("newest"), None);
    assert_eq!(parse(""), None);
    assert_eq!(requested(&[Request::All]).len(), SERIES.len());
}

#[test]
fn packages_without_release_image_are_ignored() {
    let packages = packages();
    let names: Vec<_> = packages.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "linux-binary-6.19.14+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64-unsigned",
            "linux-image-5.10.0-30-cloud-amd64",
        ]
    );
}

#[test]
fn newest_kernel_of_series_is_chosen() {
    let chosen = |version| choose(&series(version), &[]);
    assert_eq!(
        chosen("6.1").as_deref(),
        Some("linux-image-6.1.0-0.deb11.52-cloud-amd64")
    );
    assert_eq!(
        chosen("6").as_deref(),
        Some("linux-binary-6.19.14+deb13-cloud-amd64")
    );
    assert_eq!(
        chosen("5.10.218").as_deref(),
        Some("linux-image-5.10.0-30-cloud-amd64")
    );
    assert_eq!(chosen("6.18"), None);
}

#[test]
fn next_kernel_is_chosen_if_download_fails() {
    let signed = "linux-image-5.10.0-46-cloud-amd64";
    let unsigned = "linux-image-5.10.0-46-cloud-amd64-unsigned";
    let chosen = |missing: &[&str]| choose(&[5, 10], missing);
    assert_eq!(chosen(&[signed]).as_deref(), Some(unsigned));
    assert_eq!(
        chosen(&[signed, unsigned]).as_deref(),
        Some("linux-image-5.10.0-30-cloud-amd64")
    );
    assert_eq!(
        chosen(&[signed, unsigned, "linux-image-5.10.0-30-cloud-amd64"]),
        None
    );
}
