//! Finds the configuration of a running supervisord from its command line.

use crate::host::{directory_of, join, normalized};

/// Default paths relative to the directory of the program, tried first (`searchpaths`,
/// supervisor/options.py, 4.2.5).
const BESIDE_PROGRAM: [&str; 2] = ["../etc/supervisord.conf", "../supervisord.conf"];
/// Further default paths; the first two are relative to the directory supervisord was started in.
const DEFAULT_PATHS: [&str; 4] = [
    "supervisord.conf",
    "etc/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
];

/// Returns the possible paths of the configuration, the most likely first; `None` if the process is not
/// supervisord.
///
/// A process is supervisord if its program, or the script that its interpreter runs, has that name.
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
    let option = arguments.iter().enumerate().find_map(|(i, word)| {
        let next = || arguments.get(i + 1).map(AsRef::as_ref);
        match word.as_ref() {
            "-c" | "--configuration" => next(),
            word => word
                .strip_prefix("--configuration=")
                .or_else(|| word.strip_prefix("-c").filter(|path| !path.is_empty())),
        }
    });
    if let Some(path) = option {
        return Some(vec![in_directory(path)]);
    }
    let own = in_directory(&words[program]);
    let beside = BESIDE_PROGRAM.map(|path| normalized(&join(directory_of(&own), path)));
    let defaults = DEFAULT_PATHS.map(in_directory);
    Some(beside.into_iter().chain(defaults).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configurations_of(cmdline: &str) -> Option<Vec<String>> {
        let words = cmdline.split(' ').map(|word| word.as_bytes().to_vec());
        configurations(&words.collect::<Vec<_>>(), "/srv")
    }

    #[test]
    fn configuration_option_is_used() {
        for cmdline in [
            "/usr/bin/python3 /usr/bin/supervisord -n -c x.conf",
            "supervisord --configuration=x.conf",
            "supervisord -cx.conf",
            "python supervisord --configuration ../srv/x.conf -n",
        ] {
            let found = configurations_of(cmdline);
            assert_eq!(found, Some(vec!["/srv/x.conf".to_owned()]), "{cmdline}");
        }
    }

    #[test]
    fn default_paths_are_in_search_order() {
        let found = configurations_of("/usr/bin/python3 /opt/bin/supervisord -n").unwrap();
        assert_eq!(found[0], "/opt/etc/supervisord.conf");
        assert_eq!(found[1], "/opt/supervisord.conf");
        assert_eq!(found[2], "/srv/supervisord.conf");
        assert!(found.contains(&"/etc/supervisor/supervisord.conf".to_owned()));
    }

    #[test]
    fn other_programs_have_no_configuration() {
        for other in ["cat supervisord.conf", "vi x supervisord", "supervisorctl"] {
            assert_eq!(configurations_of(other), None, "{other}");
        }
    }
}
