//! The client of an agent's API on its unix socket.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use fdwatch_events::wire::Error;
use reqwest::{Client, Response, StatusCode};

use serde::de::DeserializeOwned;

use crate::builder;

/// Timeout of the header of a response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Client of one agent.
#[derive(Debug)]
pub struct AgentClient(Client);

impl AgentClient {
    /// Creates a client of the agent at `socket`; does not connect.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn new(socket: &Path) -> Result<Self> {
        let client = builder()
            .unix_socket(socket)
            .build()
            .context("cannot create an HTTP client")?;
        Ok(Self(client))
    }

    /// Sends a request, and returns the response as soon as its header has arrived.
    ///
    /// # Errors
    ///
    /// If there is no response in time, or the response is an error.
    pub async fn response(&self, path: &str) -> Result<Response> {
        let request = self.0.get(format!("http://agent{path}")).send();
        let response = tokio::time::timeout(ANSWER_TIMEOUT, request).await;
        let response = response
            .context("no response from the agent")?
            .context("no response from the agent")?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Error>(&body) {
            Ok(refusal) if !refusal.error.is_empty() => bail!("{}", refusal.error),
            _ => bail!("the agent rejected the request: {status}"),
        }
    }

    /// Sends a request, and returns the whole body of the response.
    ///
    /// # Errors
    ///
    /// As [`Self::response`], or if the agent exits before the end of the body.
    pub async fn body(&self, path: &str) -> Result<Bytes> {
        let body = self.response(path).await?.bytes().await;
        body.context("the agent has exited")
    }

    /// Sends a request, and parses the body of the response.
    ///
    /// # Errors
    ///
    /// As [`Self::body`], or if the body is not such an object.
    pub async fn object<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.body(path).await?;
        serde_json::from_slice(&body).with_context(|| format!("invalid response to {path}"))
    }
}
