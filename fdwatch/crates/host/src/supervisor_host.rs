//! The [`Host`] of supervisord's configurations that reads the files of this host.

use std::{
    env,
    ffi::CString,
    fs,
    io::{self, IsTerminal as _, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use fdwatch_supervisor::{
    host::{FileKind, Found, Host, directory_of, join},
    pattern::{component_matches, component_pattern, is_pattern},
};

use crate::proc;

/// Maximum size of a file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 64 << 20;

/// The host that fdwatch runs on.
#[derive(Clone, Copy, Debug)]
pub struct RealHost;

impl Host for RealHost {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(path)?;
        file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            let reason = format!("larger than {} MiB", MAX_FILE_SIZE >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(bytes)
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let mut paths = vec![if pattern.starts_with('/') { "/" } else { "." }.to_owned()];
        let components: Vec<_> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        for (index, component) in components.iter().enumerate() {
            let is_last = index + 1 == components.len();
            let mut matching = Vec::new();
            for directory in &paths {
                matching.extend(matches(directory, component, is_last));
            }
            paths = matching;
        }
        paths
    }

    fn environment(&self) -> Vec<(String, String)> {
        env::vars_os()
            .map(|(name, value)| {
                let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
                (text(name), text(value))
            })
            .collect()
    }

    fn node_name(&self) -> String {
        proc::hostname()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        if user.is_none()
            && let Ok(home) = env::var("HOME")
        {
            return Some(home);
        }
        let own = proc::effective_user().to_string();
        account(user.unwrap_or(&own)).map(|account| account.home)
    }

    fn current_directory(&self) -> String {
        let directory = env::current_dir();
        directory.map_or_else(
            |_| "/".to_owned(),
            |path| path.to_string_lossy().into_owned(),
        )
    }

    fn temporary_directory(&self) -> String {
        env::temp_dir().to_string_lossy().into_owned()
    }

    fn look(&self, path: &str) -> Found {
        let resolved = fs::canonicalize(path).ok();
        let resolved = resolved.map(|path| path.to_string_lossy().into_owned());
        match fs::metadata(path) {
            Ok(metadata) => Found {
                kind: Some(kind(path, metadata.file_type())),
                identity: Some((metadata.dev(), metadata.ino())),
                resolved,
            },
            Err(_) => Found {
                resolved: resolve_missing(path),
                ..Found::default()
            },
        }
    }

    fn may_write(&self, path: &str, user: Option<&str>) -> Option<bool> {
        let own = proc::effective_user();
        match user {
            // supervisord is usually started by root; any other user is unknown.
            None => (own == 0).then(|| access(path, libc::W_OK)),
            // For root, only a read-only file system could deny writing.
            Some(user) => {
                let account = account(user)?;
                if own == account.uid {
                    return Some(access(path, libc::W_OK));
                }
                if account.uid == 0 {
                    return None;
                }
                account.may_write(path)
            }
        }
    }
}

/// Returns the entries of a directory that match a component of a pattern, as in Python's `glob`: `**`
/// means `*`, and names with a leading dot only match explicitly.
fn matches(directory: &str, component: &str, is_last: bool) -> Vec<String> {
    let shown = |name: &str| match directory {
        "." => name.to_owned(),
        _ => join(directory, name),
    };
    if !is_pattern(component) {
        let path = shown(component);
        // A dangling link matches as the last component.
        let is_there = if is_last {
            fs::symlink_metadata(&path).is_ok()
        } else {
            Path::new(&path).is_dir()
        };
        return if is_there { vec![path] } else { Vec::new() };
    }
    let pattern = component_pattern(component);
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| component_matches(pattern.as_ref(), component, name))
        .map(|name| shown(&name))
        .filter(|path| is_last || Path::new(path).is_dir())
        .collect()
}

fn kind(path: &str, file_type: fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::Regular
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_char_device() && is_terminal(path) {
        FileKind::Terminal
    } else {
        FileKind::Other
    }
}

fn is_terminal(path: &str) -> bool {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path);
    file.is_ok_and(|file| file.is_terminal())
}

/// Resolves the path of a missing file: its resolved directory, joined with its name. Dangling links are
/// followed.
fn resolve_missing(path: &str) -> Option<String> {
    let mut path = path.to_owned();
    // The kernel's limit: MAXSYMLINKS, include/linux/namei.h.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = join(directory_of(&path), target.to_str()?);
    }
    let directory = fs::canonicalize(directory_of(&path)).ok()?;
    let name = Path::new(&path).file_name()?;
    Some(directory.join(name).to_string_lossy().into_owned())
}

fn access(path: &str, mode: i32) -> bool {
    let Ok(path) = CString::new(path) else {
        return false;
    };
    // SAFETY: the path ends with NUL, and the kernel only reads it.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) == 0 }
}

/// A user from /etc/passwd, with groups from /etc/group; other name services are not used.
struct Account {
    uid: u32,
    groups: Vec<u32>,
    home: String,
}

fn account(user: &str) -> Option<Account> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let fields = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let fields = fields
        .filter(|fields| fields.len() >= 6)
        .find(|fields| fields[0] == user || fields[2] == user)?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        let mut group = line.split(':').skip(2);
        let gid = group.next()?.parse().ok()?;
        let is_in = group.next()?.split(',').any(|member| member == fields[0]);
        is_in.then_some(gid)
    });
    let mut groups: Vec<u32> = groups.collect();
    groups.push(fields[3].parse().ok()?);
    Some(Account {
        uid: fields[2].parse().ok()?,
        groups,
        home: fields[5].to_owned(),
    })
}

impl Account {
    /// Evaluates the permission bits of the path and its directories; `None` if an access control list
    /// may apply, or a path cannot be read.
    fn may_write(&self, path: &str) -> Option<bool> {
        let path = fs::canonicalize(path).ok()?;
        let mut may = self.may(&path, 0o2)?;
        if path.is_dir() {
            may &= self.may(&path, 0o1)?;
        }
        for directory in path.ancestors().skip(1) {
            may &= self.may(directory, 0o1)?;
        }
        Some(may)
    }

    fn may(&self, path: &Path, bit: u32) -> Option<bool> {
        let metadata = fs::metadata(path).ok()?;
        let shift = if metadata.uid() == self.uid {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        let may = metadata.mode() & (bit << shift) != 0;
        // An access control list may still grant it.
        if !may && has_acl(path) {
            return None;
        }
        Some(may)
    }
}

fn has_acl(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"system.posix_acl_access";
    // SAFETY: both names end with NUL, and nothing is written to a buffer of size 0.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_matches_python() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        fs::create_dir(join(root, "sub")).unwrap();
        for name in ["a.conf", "b.conf", ".c.conf", "x[", "sub/d.conf"] {
            fs::write(join(root, name), "").unwrap();
        }
        // Results of glob.glob of Python 3.11.
        for (pattern, expected) in [
            ("*.conf", &["a.conf", "b.conf"][..]),
            (".*.conf", &[".c.conf"]),
            ("**.conf", &["a.conf", "b.conf"]),
            ("**/*.conf", &["sub/d.conf"]),
            ("*/d.*", &["sub/d.conf"]),
            ("[!a].conf", &["b.conf"]),
            ("x[", &["x["]),
            ("a.conf", &["a.conf"]),
            ("none", &[]),
            ("sub", &["sub"]),
        ] {
            let mut found = RealHost.glob(&join(root, pattern));
            found.sort();
            let expected: Vec<_> = expected.iter().map(|name| join(root, name)).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn missing_files_resolve_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let root = root.to_str().unwrap();
        fs::create_dir(join(root, "real")).unwrap();
        std::os::unix::fs::symlink("real", join(root, "link")).unwrap();
        std::os::unix::fs::symlink("real/new.log", join(root, "dangling")).unwrap();
        let there = Some(format!("{root}/real/new.log"));
        assert_eq!(
            RealHost.look(&format!("{root}/link/new.log")).resolved,
            there
        );
        assert_eq!(RealHost.look(&format!("{root}/dangling")).resolved, there);
        assert_eq!(
            RealHost.look(&format!("{root}/none/new.log")).resolved,
            None
        );
        assert_eq!(RealHost.look(root).kind, Some(FileKind::Directory));
        assert_eq!(RealHost.look("/dev/null").kind, Some(FileKind::Other));
    }
}
