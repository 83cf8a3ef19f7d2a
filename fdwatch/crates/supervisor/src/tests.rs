//! Processes, logs and uses of configurations on a simulated host.

use std::{collections::BTreeMap, io};

use super::{
    host::{FileKind, Found, directory_of, normalized},
    *,
};

mod lints;
mod truth;

/// A host with files in memory.
#[derive(Default)]
pub(super) struct FakeHost {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Symbolic links to files and directories, with their targets.
    pub(super) links: BTreeMap<String, String>,
    /// Files and directories that the user may not write.
    pub(super) unwritable: Vec<String>,
    /// Missing directories; all others exist.
    pub(super) missing: Vec<String>,
}

impl FakeHost {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter();
        Self {
            files: files
                .map(|&(path, text)| (path.to_owned(), text.into()))
                .collect(),
            ..Self::default()
        }
    }

    fn resolved(&self, path: &str) -> String {
        let mut path = normalized(path);
        for (link, target) in &self.links {
            if let Some(rest) = path.strip_prefix(link)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                path = format!("{target}{rest}");
            }
        }
        path
    }
}

impl Host for FakeHost {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path);
        bytes.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let paths = self.files.keys();
        paths
            .filter(|path| pattern::path_matches(pattern, path))
            .cloned()
            .collect()
    }

    fn environment(&self) -> Vec<(String, String)> {
        [
            ("HOME", "/root"),
            ("X", "val"),
            ("DIR", "/srv"),
            ("PCT", "50%"),
            ("N", "3"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn node_name(&self) -> String {
        "node1".to_owned()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        user.is_none().then(|| "/root".to_owned())
    }

    fn current_directory(&self) -> String {
        "/cwd".to_owned()
    }

    fn temporary_directory(&self) -> String {
        "/tmp".to_owned()
    }

    fn look(&self, path: &str) -> Found {
        let resolved = self.resolved(path);
        let is_missing = |path: &str| self.missing.iter().any(|missing| missing == path);
        let index = self.files.keys().position(|file| *file == resolved);
        let kind = match (index, resolved.as_str()) {
            (_, "/dev/null") => Some(FileKind::Other),
            (_, "/dev/tty1") => Some(FileKind::Terminal),
            (Some(_), _) => Some(FileKind::Regular),
            // Every other path without a dot in its name is a directory.
            (None, path) if !path.rsplit('/').next().unwrap_or("").contains('.') => {
                (!is_missing(path)).then_some(FileKind::Directory)
            }
            _ => None,
        };
        let is_there = !is_missing(directory_of(&resolved));
        Found {
            kind,
            identity: index.map(|index| (1, index as u64)),
            resolved: is_there.then_some(resolved),
        }
    }

    fn may_write(&self, path: &str, _user: Option<&str>) -> Option<bool> {
        Some(!self.unwritable.iter().any(|unwritable| unwritable == path))
    }
}

pub(super) fn config(text: &str) -> Config {
    read("/etc/s.conf", &FakeHost::of(&[("/etc/s.conf", text)])).unwrap()
}

fn shown(log: &Log) -> String {
    let file = match &log.target {
        Target::None => "NONE",
        Target::Auto(_) => "AUTO",
        Target::Path { reported, .. } => reported,
    };
    let syslog = if log.syslog { " syslog" } else { "" };
    format!(
        "{file} {} {}{syslog}",
        log.maxbytes.value, log.backups.value
    )
}

#[test]
fn processes_match_supervisord() {
    for case in truth::TRUTH {
        let config = read("/etc/s.conf", &FakeHost::of(case.files)).unwrap();
        let Some(expected) = case.processes else {
            assert!(!config.faults.is_empty(), "accepted: {:?}", case.files);
            continue;
        };
        assert_eq!(config.faults, [], "{:?}", case.files);
        let mut processes: Vec<_> = config
            .processes
            .iter()
            .map(|process| {
                let (group, name) = (process.group.clone(), process.name.clone());
                [group, name, shown(&process.stdout), shown(&process.stderr)]
            })
            .collect();
        processes.sort();
        assert_eq!(processes, expected, "{:?}", case.files);
    }
}

#[test]
fn faults_have_lines() {
    for (text, line, reason) in [
        ("[supervisord]\njunk\n", 2, "junk"),
        ("a=1\n", 1, "no [section]"),
        ("\n\n", 1, "no [supervisord]"),
        ("[supervisord]\nuser=%(nope)s\n", 2, "%(nope)"),
        ("[supervisord]\nloglevel=loud\n", 2, "loud"),
        ("[supervisord]\n[program:a]\n", 2, "missing key command"),
        (
            "[supervisord]\n[program:a]\ncommand=a\nstdout_logfile=\n /l/%(ENV_U)s\n",
            4,
            "environment of fdwatch",
        ),
        (
            "[supervisord]\n[program:a]\ncommand=a\nnumprocs=9\n",
            2,
            "process_num",
        ),
        (
            "[supervisord]\n[program:a]\ncommand=a\nnumprocs=999999999999\nprocess_name=%(process_num)s",
            4,
            "20000 processes",
        ),
        ("[supervisord]\n[group:g]\nprograms=x\n", 3, "[program:x]"),
    ] {
        let config = config(text);
        let fault = &config.faults[0];
        assert_eq!(fault.at, Location { file: 0, line }, "{text}: {fault}");
        assert!(fault.reason.contains(reason), "{text}: {fault}");
    }
    let host = FakeHost {
        files: [("/etc/s.conf".to_owned(), b"[s]\na=1\nb=\xff\n".to_vec())].into(),
        ..FakeHost::default()
    };
    let faults = read("/etc/s.conf", &host).unwrap().faults;
    assert_eq!(
        (faults[0].at.line, faults[0].reason.as_str()),
        (3, "invalid UTF-8")
    );
    let error = read("/etc/none.conf", &host).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /etc/none.conf");
}

#[test]
fn settings_have_file_and_line() {
    let host = FakeHost::of(&[
        (
            "/etc/s.conf",
            "[supervisord]\n[include]\nfiles=inc/*.conf\n[program:a]\ncommand=a\nstdout_logfile=/l/a\n",
        ),
        (
            "/etc/inc/a.conf",
            "\n[program:a]\nstdout_logfile_maxbytes=0\n",
        ),
    ]);
    let config = read("/etc/s.conf", &host).unwrap();
    assert_eq!(config.files, ["/etc/s.conf", "/etc/inc/a.conf"]);
    let log = &config.processes[0].stdout;
    assert_eq!(log.at, Some(Location { file: 0, line: 6 }));
    assert_eq!(log.maxbytes.at, Some(Location { file: 1, line: 3 }));
    assert_eq!(log.backups.at, None);
}

#[test]
fn relative_logs_are_in_working_directory() {
    let paths = |daemon: &str| {
        let text = format!("[supervisord]\n{daemon}\n[program:a]\ncommand=a\nstdout_logfile=l/a\n");
        let config = config(&text);
        let Target::Path { absolute, .. } = &config.processes[0].stdout.target else {
            panic!("no path");
        };
        let Target::Auto(prefix) = &config.processes[0].stderr.target else {
            panic!("not generated");
        };
        let logfile = config.daemon.logfile.clone();
        (
            absolute.clone(),
            prefix.clone(),
            logfile.unwrap_or_default(),
        )
    };
    let [one, two, three] = [
        paths(""),
        paths("directory=/run\nchildlogdir=/l\nidentifier=me\nlogfile=../x.log"),
        paths("directory=/run\nnodaemon=true\nlogfile=syslog"),
    ];
    assert_eq!(one.0, "/cwd/l/a");
    assert_eq!(one.1, "/tmp/a-stderr---supervisor-");
    assert_eq!(one.2, "/cwd/supervisord.log");
    assert_eq!(two.0, "/run/l/a");
    assert_eq!(two.1, "/l/a-stderr---me-");
    assert_eq!(two.2, "/x.log");
    assert_eq!(three.0, "/cwd/l/a");
    assert_eq!(three.2, "");
}

#[test]
fn uses_are_found_by_path() {
    let config = config(
        "[supervisord]\nlogfile=/l/s.log\n[program:a]\ncommand=a\nstdout_logfile=/l/x/../a.log\n\
         [program:b]\ncommand=b\nstdout_logfile=/link/a.log\nchildlogdir=/tmp\n",
    );
    let resolve = |path: &str| path.replace("/link", "/l").replace("/tmp", "/var/tmp");
    let owners = |path: &str| -> Vec<(String, Option<u32>)> {
        let used = uses(&config, path, resolve).into_iter();
        let used = used.map(|used| {
            let of = match used.of {
                LogOwner::Daemon => "supervisord".to_owned(),
                LogOwner::Stream { process, stream } => {
                    format!("{} {}", config.processes[process].name, stream.name())
                }
            };
            (of, used.rotated)
        });
        used.collect()
    };
    let of = |name: &str, rotated| (name.to_owned(), rotated);
    assert_eq!(owners("/l/s.log"), [of("supervisord", None)]);
    assert_eq!(owners("/l/s.log.2"), [of("supervisord", Some(2))]);
    assert_eq!(
        owners("/l/a.log"),
        [of("a stdout", None), of("b stdout", None)]
    );
    assert_eq!(owners("/l/a.log.10")[0], of("a stdout", Some(10)));
    for path in [
        "/tmp/a-stderr---supervisor-ab_c1234.log",
        "/var/tmp/a-stderr---supervisor-ab_c1234.log",
    ] {
        assert_eq!(owners(path), [of("a stderr", None)], "{path}");
    }
    assert_eq!(
        owners("/tmp/b-stderr---supervisor-abcdefgh.log.1"),
        [of("b stderr", Some(1))]
    );
    for path in [
        "/l/b.log",
        "/l/a.log.0",
        "/l/a.log.x",
        "/tmp/a-stderr---supervisor-abc.log",
        "",
        "/",
    ] {
        assert_eq!(owners(path), [], "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        let files = [("/etc/s.conf".to_owned(), bytes)].into();
        let host = FakeHost { files, ..FakeHost::default() };
        let config = read("/etc/s.conf", &host).unwrap();
        let _ = lint::lint(&config, &logrotate::Rotations::default(), &host);
    }

    #[test]
    fn arbitrary_values_do_not_panic(
        keys in proptest::collection::vec(
            ("(numprocs|process_name|stdout_logfile|stderr_logfile|environment|stdout_logfile_maxbytes|\
              redirect_stderr|numprocs_start|user|files|[a-z]{1,4})",
             "(%\\((process_num|program_name|here|ENV_X)\\)[sdx0-9]{1,3}|[a-z0-9=\",/.~% -]{0,6}){0,3}"),
            0..8,
        ),
        rotate in "([a-z/*{}\"'# \n]|copytruncate|postrotate|endscript){0,30}",
    ) {
        let mut text = String::from("[supervisord]\n[include]\nfiles=/etc/x\n[program:a]\ncommand=a\n");
        for (key, value) in keys {
            text += &format!("{key}={value}\n");
        }
        let host = FakeHost::of(&[("/etc/s.conf", &text), ("/etc/rotate.d", &rotate)]);
        let config = read("/etc/s.conf", &host).unwrap();
        let mut rotations = logrotate::Rotations::default();
        let _ = logrotate::read("/etc/rotate.d", &host, &mut rotations);
        let _ = lint::lint(&config, &rotations, &host);
        let _ = uses(&config, "/etc/x", str::to_owned);
    }
}
