//! The client of the control plane: one request and one answer for each connection.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::change_json::{CompactReport, CompactRequest};
use super::stat_json::{ErrorReport, StatReport};

/// Time limit of a request that only reads.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of a compaction.
const COMPACTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest answer that is read. Units: bytes.
const MAX_RESPONSE_LEN: usize = 16 << 20;

/// Returns the statistics of the server behind this socket.
///
/// # Errors
/// No server answers in time, or it refuses.
pub(crate) fn stat(socket: &Path) -> Result<StatReport> {
    call(socket, Method::GET, "/v1/stat", Vec::new(), RESPONSE_TIMEOUT)
}

/// Asks the server behind this socket to compact its pool and its frames; returns its report.
///
/// # Errors
/// No server answers in time, or it refuses.
pub(crate) fn compact(socket: &Path, request: CompactRequest) -> Result<CompactReport> {
    let body = serde_json::to_vec(&request).context("cannot write the request")?;
    call(socket, Method::POST, "/v1/compact", body, COMPACTION_TIMEOUT)
}

fn call<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<T> {
    // A runtime for this one request; the client has no other asynchronous work.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the HTTP client")?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "memzip")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .context("cannot write the request")?;
    let (status, answer) = runtime
        .block_on(async { tokio::time::timeout(limit, exchange(socket, request)).await })
        .map_err(|_| {
            anyhow!(
                "the server behind {} did not answer within {} s",
                socket.display(),
                limit.as_secs()
            )
        })??;
    // The server explains a refusal in the body.
    if status != StatusCode::OK {
        match serde_json::from_slice::<ErrorReport>(&answer) {
            Ok(report) => bail!("the server refused ({}): {}", status.as_u16(), report.error),
            Err(_) => bail!("the server refused: {status}"),
        }
    }
    serde_json::from_slice(&answer)
        .with_context(|| format!("{} does not answer like a memzip server", socket.display()))
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no server answers at {}", socket.display()))?;
    let not_http = || format!("{} does not speak HTTP", socket.display());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(not_http)?;
    // The task carries the bytes while the request waits, which gets the task's error, too.
    tokio::task::spawn(connection);
    let response = sender.send_request(request).await.with_context(not_http)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_LEN)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer is incomplete: {error}"))?;
    Ok((status, body.to_bytes()))
}
