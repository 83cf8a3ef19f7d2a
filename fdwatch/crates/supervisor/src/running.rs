//! Which configuration a running supervisord has, by how it was started.

use super::host::{directory_of, join, normalized};

/// Where supervisord looks for its configuration if it is not told: beside its own program, and then
/// in these, of which the first two are in the directory it was started in (`searchpaths`,
/// supervisor/options.py, 4.2.5).
const BESIDE: [&str; 2] = ["../etc/supervisord.conf", "../supervisord.conf"];
const USUAL: [&str; 4] = [
    "supervisord.conf",
    "etc/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
];

/// Where the configuration may be of a process that was started so, the likeliest first; none if that
/// is no supervisord.
///
/// It is one if its program, or the script that an interpreter runs, is called so.
#[must_use]
pub fn configurations(cmdline: &[Vec<u8>], directory: &str) -> Option<Vec<String>> {
    let words: Vec<_> = cmdline
        .iter()
        .map(|word| String::from_utf8_lossy(word))
        .collect();
    let is_supervisord = |word: &str| {
        word.rsplit('/')
            .next()
            .is_some_and(|name| name == "supervisord")
    };
    let program = words.iter().take(2).position(|word| is_supervisord(word))?;
    let in_directory = |path: &str| normalized(&join(directory, path));
    let arguments = &words[program + 1..];
    let told = arguments.iter().enumerate().find_map(|(i, word)| {
        let next = || arguments.get(i + 1).map(AsRef::as_ref);
        match word.as_ref() {
            "-c" | "--configuration" => next(),
            word => word
                .strip_prefix("--configuration=")
                .or_else(|| word.strip_prefix("-c").filter(|path| !path.is_empty())),
        }
    });
    if let Some(told) = told {
        return Some(vec![in_directory(told)]);
    }
    let own = in_directory(&words[program]);
    let beside = BESIDE.map(|path| normalized(&join(directory_of(&own), path)));
    Some(beside.into_iter().chain(USUAL.map(in_directory)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configurations_of(cmdline: &str) -> Option<Vec<String>> {
        let words = cmdline.split(' ').map(|word| word.as_bytes().to_vec());
        configurations(&words.collect::<Vec<_>>(), "/srv")
    }

    #[test]
    fn what_it_was_told_is_its_configuration() {
        for told in [
            "/usr/bin/python3 /usr/bin/supervisord -n -c x.conf",
            "supervisord --configuration=x.conf",
            "supervisord -cx.conf",
            "python supervisord --configuration ../srv/x.conf -n",
        ] {
            let found = configurations_of(told);
            assert_eq!(found, Some(vec!["/srv/x.conf".to_owned()]), "{told}");
        }
    }

    #[test]
    fn one_that_was_told_nothing_looks_where_it_looks() {
        let found = configurations_of("/usr/bin/python3 /opt/bin/supervisord -n").unwrap();
        assert_eq!(found[0], "/opt/etc/supervisord.conf");
        assert_eq!(found[1], "/opt/supervisord.conf");
        assert_eq!(found[2], "/srv/supervisord.conf");
        assert!(found.contains(&"/etc/supervisor/supervisord.conf".to_owned()));
    }

    #[test]
    fn others_are_none() {
        for other in ["cat supervisord.conf", "vi x supervisord", "supervisorctl"] {
            assert_eq!(configurations_of(other), None, "{other}");
        }
    }
}
