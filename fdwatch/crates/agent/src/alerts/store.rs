//! Keeps what was told beyond the end of the agent: a small file, written anew as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::notice::Notice;

/// The form of the file.
const VERSION: u32 = 1;

/// A file larger than that is not one of ours: bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What was told to whom, by their names.
pub(super) type Told = BTreeMap<String, Vec<Arc<Notice>>>;

#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    told: BTreeMap<String, Vec<Notice>>,
}

/// The file.
#[derive(Debug)]
pub(super) struct AlertStore {
    path: PathBuf,
    /// What could not be written, for it to be said once.
    failed: Option<String>,
}

impl AlertStore {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, failed: None }
    }

    /// What is in the file; nothing, if there is none or it cannot be used, which is said.
    pub(super) fn read(&self) -> Told {
        let path = self.path.display();
        match read(&self.path) {
            Ok(told) => told,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Told::new(),
            Err(error) => {
                let aside = self.path.with_extension("json.unusable");
                let kept = match fs::rename(&self.path, &aside) {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("it cannot be put aside either: {error}"),
                };
                tracing::warn!(
                    "what alerts told before is not known, and some may be told again: cannot use \
                     {path}: {error}; {kept}"
                );
                Told::new()
            }
        }
    }

    /// Writes it. Where that fails it is said once, and again when it works.
    pub(super) fn write(&mut self, told: Told) {
        let told = told.into_iter();
        let form = Form {
            version: VERSION,
            told: told
                .map(|(name, notices)| {
                    let notices = notices.into_iter();
                    (name, notices.map(Arc::unwrap_or_clone).collect())
                })
                .collect(),
        };
        let path = self.path.display();
        match write(&self.path, &form) {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::info!("{path} can be written again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        "cannot write {path}: {error}; alerts go on, and after a restart of the \
                         agent some may be told again"
                    );
                    self.failed = Some(error);
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Told> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    let form: Form = serde_json::from_str(&text)?;
    if form.version != VERSION {
        let version = form.version;
        return Err(io::Error::other(format!("it is of version {version}")));
    }
    let told = form.told.into_iter();
    Ok(told
        .map(|(name, notices)| (name, notices.into_iter().map(Arc::new).collect()))
        .collect())
}

/// Another file first, which takes the place of the old one when it is whole.
fn write(path: &Path, form: &Form) -> io::Result<()> {
    let text = serde_json::to_vec(form)?;
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alerts.json");
        let mut kept = AlertStore::new(path.clone());
        assert!(kept.read().is_empty());
        let notice: Notice = serde_json::from_str(
            r#"{"key":"000000000000000000000000000000ff","kind":"finding","severity":"critical",
                "cause":"reopened","pid":7,"comm":"a\"b","unit":null,"path":"/x\\n","summary":"s",
                "advice":"a","since":18446744073709551615}"#,
        )
        .unwrap();
        let told = Told::from([("webhook".to_owned(), vec![Arc::new(notice)])]);
        kept.write(told.clone());
        assert_eq!(kept.read(), told);
    }

    #[test]
    fn what_cannot_be_used_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alerts.json");
        for text in [
            &b"{\"version\":1,\"told\":{\"x\":[{\"key\":\"z"[..],
            b"\xff",
            b"[]",
            b"{\"version\":9,\"told\":{}}",
        ] {
            fs::write(&path, text).unwrap();
            assert!(AlertStore::new(path.clone()).read().is_empty());
            assert_eq!(
                fs::read(directory.path().join("alerts.json.unusable")).unwrap(),
                text
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_directory_that_is_not_there_stops_nothing() {
        let mut kept = AlertStore::new(PathBuf::from("/nonexistent/alerts.json"));
        kept.write(Told::new());
        assert!(kept.failed.is_some());
    }
}
