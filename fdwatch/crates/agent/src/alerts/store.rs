//! The record of sent alerts, which outlives the agent: a small file that is replaced as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{notice::Notice, state::SentAlerts};

/// The version of the file format.
const VERSION: u32 = 1;

/// Size limit of the file: bytes. A larger one is invalid.
const MAX_BYTES: u64 = 64 << 20;

/// The sent alerts of each receiver, by its name.
pub(super) type AllSent = BTreeMap<String, SentAlerts>;

/// Alerts by the name of their receiver.
type ByReceiver = BTreeMap<String, Vec<Notice>>;

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    told: ByReceiver,
    #[serde(default)]
    sending: ByReceiver,
}

/// The file of sent alerts.
#[derive(Debug)]
pub(super) struct AlertStore {
    path: PathBuf,
    /// The last write error, so that it is logged once.
    failed: Option<String>,
}

impl AlertStore {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, failed: None }
    }

    /// Reads the file. Returns nothing if it does not exist or is invalid, which is logged.
    pub(super) fn read(&self) -> AllSent {
        let path = self.path.display();
        match read(&self.path) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => AllSent::new(),
            Err(error) => {
                let aside = self.path.with_extension("json.unusable");
                let outcome = match fs::rename(&self.path, &aside) {
                    Ok(()) => format!("renamed to {}", aside.display()),
                    Err(error) => format!("cannot rename it either: {error}"),
                };
                tracing::warn!(
                    "cannot read {path}: {error}; {outcome}. Alerts that were sent before may be sent again"
                );
                AllSent::new()
            }
        }
    }

    /// Replaces the file. Logs the first failure, and the first success after it.
    pub(super) async fn write(&mut self, all: AllSent) {
        let path = self.path.clone();
        // The disk may take seconds.
        let written = tokio::task::spawn_blocking(move || write(&path, all)).await;
        let path = self.path.display();
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::info!("{path} can be written again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        "cannot write {path}: {error}; alerts that were sent may be sent again after a restart"
                    );
                    self.failed = Some(error);
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<AllSent> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 64 MiB"));
    }
    let content: Content = serde_json::from_str(&text)?;
    if content.version != VERSION {
        let version = content.version;
        return Err(io::Error::other(format!("unsupported version {version}")));
    }
    let mut all = AllSent::new();
    for (name, told) in content.told {
        all.entry(name).or_default().told = told.into_iter().map(Arc::new).collect();
    }
    for (name, sending) in content.sending {
        all.entry(name).or_default().sending = sending.into_iter().map(Arc::new).collect();
    }
    Ok(all)
}

/// Writes a new file, then renames it over the old one.
fn write(path: &Path, all: AllSent) -> io::Result<()> {
    let mut content = Content {
        version: VERSION,
        told: ByReceiver::new(),
        sending: ByReceiver::new(),
    };
    for (name, SentAlerts { told, sending }) in all {
        let owned = |notices: Vec<_>| notices.into_iter().map(Arc::unwrap_or_clone).collect();
        content.told.insert(name.clone(), owned(told));
        content.sending.insert(name, owned(sending));
    }
    let text = serde_json::to_vec(&content)?;
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_to(store: &mut AlertStore, all: AllSent) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(store.write(all));
    }

    #[test]
    fn written_alerts_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alerts.json");
        let mut store = AlertStore::new(path.clone());
        assert!(store.read().is_empty());
        let notice: Notice = serde_json::from_str(
            r#"{"key":"000000000000000000000000000000ff","kind":"finding","severity":"critical",
                "cause":"reopened","pid":7,"comm":"a\"b","unit":null,"path":"/x\\n","summary":"s",
                "advice":"a","since":18446744073709551615}"#,
        )
        .unwrap();
        // A file of an earlier version.
        assert_eq!((notice.start_time, notice.uid), (0, None));
        let notice = Arc::new(notice);
        let sent = SentAlerts {
            told: vec![Arc::clone(&notice)],
            sending: vec![notice],
        };
        let all = AllSent::from([("webhook".to_owned(), sent)]);
        write_to(&mut store, all.clone());
        assert_eq!(store.read(), all);
        fs::write(&path, "{\"version\":1,\"told\":{\"webhook\":[]}}").unwrap();
        let none = AllSent::from([("webhook".to_owned(), SentAlerts::default())]);
        assert_eq!(store.read(), none);
    }

    #[test]
    fn invalid_file_is_renamed() {
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
    fn missing_directory_is_not_fatal() {
        let mut store = AlertStore::new(PathBuf::from("/nonexistent/alerts.json"));
        write_to(&mut store, AllSent::new());
        assert!(store.failed.is_some());
    }
}
