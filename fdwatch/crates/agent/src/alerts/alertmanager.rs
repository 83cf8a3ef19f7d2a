//! Alerts to Prometheus' Alertmanager, by version 2 of its API.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use reqwest::Client;
use serde::Serialize;

use super::{
    delivery::{Sent, post},
    notice::Notice,
    state::{Alert, Status},
};
use fdwatch_events::time::rfc3339;

/// Alerts per request.
const MAX_AT_ONCE: usize = 256;

/// A client of one Alertmanager.
#[derive(Debug)]
pub(super) struct Alertmanager {
    client: Client,
    url: String,
    host: Arc<str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert<'a> {
    labels: BTreeMap<&'static str, Cow<'a, str>>,
    annotations: BTreeMap<&'static str, &'a str>,
    starts_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
}

impl Alertmanager {
    /// Creates a client of the Alertmanager at `url`, to which `/api/v2/alerts` is appended.
    pub(super) fn new(client: Client, url: &str, host: Arc<str>) -> Self {
        Self {
            client,
            url: format!("{}/api/v2/alerts", url.trim_end_matches('/')),
            host,
        }
    }

    /// Sends an alert. If its severity has changed, the alert with the previous labels is resolved.
    pub(super) async fn send(&self, alert: &Alert) -> Sent {
        let ended = alert.ended.filter(|_| alert.status == Status::Resolved);
        let now = fdwatch_host::proc::wall_time();
        let was = alert
            .was
            .iter()
            .filter(|was| was.severity != alert.notice.severity);
        let to_post: Vec<_> = was
            .map(|was| self.to_post(was, Some(now)))
            .chain([self.to_post(&alert.notice, ended)])
            .collect();
        self.post(&to_post).await
    }

    /// Sends all firing alerts again: Alertmanager resolves alerts that are not repeated.
    pub(super) async fn remind(&self, notices: &[Arc<Notice>]) -> Sent {
        let mut last = Sent::delivered();
        for some in notices.chunks(MAX_AT_ONCE) {
            let to_post: Vec<_> = some
                .iter()
                .map(|notice| self.to_post(notice, None))
                .collect();
            let sent = self.post(&to_post).await;
            if !sent.is_delivered() {
                last = sent;
            }
        }
        last
    }

    async fn post(&self, to_post: &[PostedAlert<'_>]) -> Sent {
        match serde_json::to_string(to_post) {
            Ok(body) => post(&self.client, &self.url, body).await,
            Err(error) => Sent::failed(error.to_string()),
        }
    }

    fn to_post<'a>(&'a self, notice: &'a Notice, ended: Option<u64>) -> PostedAlert<'a> {
        let key = notice.key.to_string();
        let labels: [(_, Cow<'_, str>); 8] = [
            ("alertname", notice.alertname().into()),
            ("severity", notice.severity.name().into()),
            ("cause", notice.cause.as_str().into()),
            ("host", self.host.as_ref().into()),
            ("key", key.into()),
            ("comm", notice.comm.as_str().into()),
            ("unit", notice.unit.as_deref().unwrap_or_default().into()),
            ("path", notice.path.as_deref().unwrap_or_default().into()),
        ];
        PostedAlert {
            // Alertmanager treats empty labels as missing.
            labels: labels
                .into_iter()
                .filter(|(_, it)| !it.is_empty())
                .collect(),
            annotations: BTreeMap::from([
                ("summary", notice.summary.as_str()),
                ("advice", notice.advice.as_str()),
            ]),
            // Alertmanager rejects an end before the start, as after the clock was set back while the agent was down.
            starts_at: rfc3339(notice.since.min(ended.unwrap_or(u64::MAX))),
            ends_at: ended.map(rfc3339),
        }
    }
}
