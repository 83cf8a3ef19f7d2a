//! Alerts to systemd's journal, by its native protocol, with fields to search by.

use std::{io, path::PathBuf};

use tokio::net::UnixDatagram;

use super::{
    delivery::Sent,
    state::{Alert, Status},
};
use fdwatch_core::diagnose::Severity;

/// The socket of the journal.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// `MESSAGE_ID` of firing alerts.
pub const FIRING_ID: &str = "0d5b2b46a2a04f7f8a6a1f1f8ad7c1b1";

/// `MESSAGE_ID` of resolved alerts.
pub const RESOLVED_ID: &str = "5c0f6e3b9b8e4b0a9b6b5f5b2f1e7a22";

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: PathBuf,
}

impl Journal {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Writes an alert to the journal.
    pub(super) async fn send(&self, alert: &Alert, host: &str) -> Sent {
        match self.write(&message(alert, host)).await {
            Ok(()) => Sent::delivered(),
            Err(error) => Sent::failed(format!("{}: {error}", self.socket.display())),
        }
    }

    /// Opens the socket for each message, because the journal may have been restarted.
    async fn write(&self, message: &[u8]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.send_to(message, &self.socket).await.map(drop)
    }
}

/// Encodes an alert for the journal. All fields are bounded, so it fits a datagram.
fn message(alert: &Alert, host: &str) -> Vec<u8> {
    let notice = &alert.notice;
    let (id, priority) = match (alert.status, notice.severity) {
        (Status::Resolved, _) => (RESOLVED_ID, "6"),
        (Status::Firing, Severity::Critical) => (FIRING_ID, "2"),
        (Status::Firing, Severity::Warning) => (FIRING_ID, "4"),
        (Status::Firing, Severity::Info) => (FIRING_ID, "6"),
    };
    let status = alert.status.name();
    let summary = format!("{status}: {}: {}", notice.severity.name(), notice.summary);
    let pid = notice.pid.to_string();
    let key = notice.key.to_string();
    let fields = [
        ("MESSAGE", summary.as_str()),
        ("MESSAGE_ID", id),
        ("PRIORITY", priority),
        ("SYSLOG_IDENTIFIER", "fdwatch"),
        ("FDWATCH_STATUS", status),
        ("FDWATCH_KEY", &key),
        ("FDWATCH_KIND", &notice.kind),
        ("FDWATCH_SEVERITY", notice.severity.name()),
        ("FDWATCH_CAUSE", &notice.cause),
        ("FDWATCH_HOST", host),
        ("FDWATCH_PID", &pid),
        ("FDWATCH_COMM", &notice.comm),
        ("FDWATCH_UNIT", notice.unit.as_deref().unwrap_or_default()),
        ("FDWATCH_PATH", notice.path.as_deref().unwrap_or_default()),
        ("FDWATCH_ADVICE", &notice.advice),
    ];
    let mut message = Vec::new();
    for (name, value) in fields {
        put(&mut message, name, value);
    }
    message
}

/// Adds a field. A value of several lines is preceded by its length.
fn put(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value.as_bytes());
    message.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_do_not_add_fields() {
        let mut message = Vec::new();
        put(&mut message, "A", "b=c");
        put(&mut message, "B", "x\nPRIORITY=0");
        assert_eq!(message, b"A=b=c\nB\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n");
    }
}
