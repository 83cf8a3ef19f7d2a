//! Prometheus' Alertmanager, by its second API.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use reqwest::Client;
use serde::Serialize;

use super::{
    delivery::{Sent, post},
    notice::Notice,
    state::{Alert, Status},
};
use fdwatch_events::time::rfc3339;

/// Alerts that are posted at once.
const MAX_AT_ONCE: usize = 256;

/// An Alertmanager.
#[derive(Debug)]
pub(super) struct Alertmanager {
    client: Client,
    url: String,
    host: Arc<str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: BTreeMap<&'static str, Cow<'a, str>>,
    annotations: BTreeMap<&'static str, &'a str>,
    starts_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
}

impl Alertmanager {
    /// The one at `url`, up to where `/api/v2/alerts` follows.
    pub(super) fn new(client: Client, url: &str, host: Arc<str>) -> Self {
        Self {
            client,
            url: format!("{}/api/v2/alerts", url.trim_end_matches('/')),
            host,
        }
    }

    /// Tells it of one. Where its labels are others than before, the one with those is over.
    pub(super) async fn send(&self, alert: &Alert) -> Sent {
        let ended = alert.ended.filter(|_| alert.status == Status::Resolved);
        let now = fdwatch_host::proc::wall_time();
        let was = alert
            .was
            .iter()
            .filter(|was| was.severity != alert.notice.severity);
        let posted: Vec<_> = was
            .map(|was| self.posted(was, Some(now)))
            .chain([self.posted(&alert.notice, ended)])
            .collect();
        self.post(&posted).await
    }

    /// Tells it of all there are once more: what it does not hear of again is over for it.
    pub(super) async fn remind(&self, notices: &[Arc<Notice>]) -> Sent {
        let mut last = Sent::delivered();
        for some in notices.chunks(MAX_AT_ONCE) {
            let posted: Vec<_> = some
                .iter()
                .map(|notice| self.posted(notice, None))
                .collect();
            let sent = self.post(&posted).await;
            if !sent.is_delivered() {
                last = sent;
            }
        }
        last
    }

    async fn post(&self, posted: &[Posted<'_>]) -> Sent {
        match serde_json::to_string(posted) {
            Ok(body) => post(&self.client, &self.url, body).await,
            Err(error) => Sent::failed(error.to_string()),
        }
    }

    fn posted<'a>(&'a self, notice: &'a Notice, ended: Option<u64>) -> Posted<'a> {
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
        Posted {
            // Empty ones are none to Alertmanager.
            labels: labels
                .into_iter()
                .filter(|(_, it)| !it.is_empty())
                .collect(),
            annotations: BTreeMap::from([
                ("summary", notice.summary.as_str()),
                ("advice", notice.advice.as_str()),
            ]),
            starts_at: rfc3339(notice.since),
            ends_at: ended.map(rfc3339),
        }
    }
}
