//! The routes of the control plane: requests and their answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::balloon_json::BalloonRequest;
use super::compact_json::CompactRequest;
use super::connection_slots::Connection;
use super::limit_json::{LimitRefusal, LimitReport, LimitRequest, PeakRequest};
use super::maintenance::BalloonRefusal;
use super::metrics;
use super::server_state::ServerState;
use super::stat_json::ErrorReport;

/// Longest request body that is read. Units: bytes.
const MAX_BODY_LEN: usize = 4096;
/// Time limit to receive a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest compaction in one request; a client that wants more asks again.
pub(super) const MAX_COMPACTION: Duration = Duration::from_secs(240);

/// Shape of the body of a compaction request, for error texts.
const COMPACT_BODY: &str =
    "{\"objects\": true, \"frames\": true, \"budget_ms\": N}, a part of it, or nothing";

/// Shape of the body of a balloon request, for error texts.
const BALLOON_BODY: &str = "{\"target\": BYTES}, {\"target\": \"auto\"} or {\"target\": \"off\"}";

/// Shape of the body of a request for another memory limit, for error texts.
const LIMIT_BODY: &str = "{\"mem_limit\": BYTES}, 0 for no limit";

/// Shape of the body of a request to reset the peak, for error texts.
const PEAK_BODY: &str = "{\"mem_used_max\": 0}";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

type HttpResponse = Response<Full<Bytes>>;

/// An answer with an error status.
#[derive(Debug)]
struct ErrorResponse {
    status: StatusCode,
    message: String,
    /// Methods that the path accepts.
    allow: Option<&'static str>,
}

impl ErrorResponse {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), allow: None }
    }

    fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message.to_string())
    }

    fn internal(message: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message.to_string())
    }

    fn of_method(path: &str, method: &Method, allowed: &'static str) -> Self {
        let message = format!("{path} does not accept {method}: use {allowed}");
        Self { allow: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }
}

/// The routes of one server.
#[derive(Clone)]
pub(super) struct Routes {
    state: Arc<ServerState>,
    compaction: Arc<Semaphore>,
    /// The connection that sends the requests.
    connection: Option<Arc<Connection>>,
}

impl Routes {
    /// Creates the routes of one server.
    pub(super) fn new(state: Arc<ServerState>) -> Self {
        Self { state, compaction: Arc::new(Semaphore::new(1)), connection: None }
    }

    /// Returns the routes for one connection.
    pub(super) fn for_connection(&self, connection: Arc<Connection>) -> Self {
        Self { connection: Some(connection), ..self.clone() }
    }

    /// Answers one request; an error becomes an answer, too.
    pub(super) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<HttpResponse, Infallible> {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let result = match (path.as_str(), method) {
            ("/v1/stat", Method::GET | Method::HEAD) => self.stat().await,
            ("/metrics", Method::GET | Method::HEAD) => self.metrics().await,
            ("/v1/compact", Method::POST) => self.compact(request).await,
            ("/v1/balloon", Method::POST) => self.balloon(request).await,
            ("/v1/mem_limit", Method::POST) => self.mem_limit(request).await,
            ("/v1/mem_used_max", Method::POST) => self.mem_used_max(request).await,
            ("/v1/stat" | "/metrics", method) => {
                Err(ErrorResponse::of_method(&path, &method, "GET, HEAD"))
            }
            ("/v1/compact" | "/v1/balloon" | "/v1/mem_limit" | "/v1/mem_used_max", method) => {
                Err(ErrorResponse::of_method(&path, &method, "POST"))
            }
            _ => Err(ErrorResponse::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no path {path}: use GET /v1/stat, POST /v1/compact, POST /v1/balloon, POST /v1/mem_limit, POST /v1/mem_used_max or GET /metrics"
                ),
            )),
        };
        Ok(result.unwrap_or_else(into_response))
    }

    /// Takes the permit that a compaction in progress holds.
    #[cfg(test)]
    pub(super) fn hold_compaction(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.compaction).try_acquire_owned().expect("no compaction is running")
    }

    async fn stat(&self) -> Result<HttpResponse, ErrorResponse> {
        let report = self.blocking(|state| state.stat()).await?;
        json(StatusCode::OK, &report)
    }

    async fn metrics(&self) -> Result<HttpResponse, ErrorResponse> {
        let text = self.blocking(|state| metrics::text(&state.stat())).await?;
        Ok(with_type(StatusCode::OK, PROMETHEUS, text.into_bytes()))
    }

    async fn compact(&self, http: Request<Incoming>) -> Result<HttpResponse, ErrorResponse> {
        let request: CompactRequest = parse(&body(http).await?, COMPACT_BODY)?;
        if let Some(reason) = request.contradiction() {
            return Err(ErrorResponse::bad_request(reason));
        }
        // One at a time: a second one would only wait for the first one's locks.
        let permit = Arc::clone(&self.compaction).try_acquire_owned().map_err(|_| {
            ErrorResponse::new(
                StatusCode::CONFLICT,
                "another compaction is running: try again when it has ended",
            )
        })?;
        let budget =
            request.budget_ms.map_or(MAX_COMPACTION, Duration::from_millis).min(MAX_COMPACTION);
        let report = self
            .blocking(move |state| {
                // The work holds the permit, not the request: a client that disconnects must not
                // admit a second compaction.
                let _permit = permit;
                state.compact(request, budget)
            })
            .await?;
        json(StatusCode::OK, &report)
    }

    async fn balloon(&self, http: Request<Incoming>) -> Result<HttpResponse, ErrorResponse> {
        let request: BalloonRequest = parse(&body(http).await?, BALLOON_BODY)?;
        // Balloon requests may overlap: the last one counts and ends the one under way.
        let change =
            self.blocking(move |state| state.maintenance().set_balloon(request.target)).await?;
        match change {
            Ok(change) => json(StatusCode::OK, &change),
            Err(refusal @ (BalloonRefusal::ExceedsArena { .. } | BalloonRefusal::NoLimit)) => {
                Err(ErrorResponse::bad_request(refusal))
            }
            Err(refusal @ BalloonRefusal::Auto(_)) => Err(ErrorResponse::internal(refusal)),
        }
    }

    async fn mem_limit(&self, http: Request<Incoming>) -> Result<HttpResponse, ErrorResponse> {
        let LimitRequest { mem_limit } = parse(&body(http).await?, LIMIT_BODY)?;
        limit_answer(self.blocking(move |state| state.set_mem_limit(mem_limit)).await?)
    }

    async fn mem_used_max(&self, http: Request<Incoming>) -> Result<HttpResponse, ErrorResponse> {
        let PeakRequest { mem_used_max } = parse(&body(http).await?, PEAK_BODY)?;
        limit_answer(self.blocking(move |state| state.reset_mem_used_max(mem_used_max)).await?)
    }

    /// Runs work that takes locks or reads /proc on another thread, so that the event loop answers
    /// other requests meanwhile.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ServerState) -> T + Send + 'static,
    ) -> Result<T, ErrorResponse> {
        let state = Arc::clone(&self.state);
        // The request is complete: from here on the client waits for the server.
        let _busy = self.connection.as_deref().map(Connection::mark_busy);
        tokio::task::spawn_blocking(move || work(&state))
            .await
            .map_err(|error| ErrorResponse::internal(format!("the request failed: {error}")))
    }
}

fn limit_answer(change: Result<LimitReport, LimitRefusal>) -> Result<HttpResponse, ErrorResponse> {
    json(StatusCode::OK, &change.map_err(ErrorResponse::bad_request)?)
}

async fn body(request: Request<Incoming>) -> Result<Bytes, ErrorResponse> {
    let whole = Limited::new(request.into_body(), MAX_BODY_LEN).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ErrorResponse::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body must be at most {MAX_BODY_LEN} bytes"),
            ))
        }
        Ok(Err(error)) => {
            Err(ErrorResponse::bad_request(format!("the body is incomplete: {error}")))
        }
        Err(_) => Err(ErrorResponse::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// Parses a body; an empty one counts as an empty object. `shape` describes the expected body in
/// the error text.
fn parse<T: DeserializeOwned>(body: &[u8], shape: &str) -> Result<T, ErrorResponse> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    // By way of an object, since serde would also accept a list of values in the order of the
    // fields.
    let object = serde_json::from_slice(body).map(serde_json::Value::Object);
    object
        .and_then(serde_json::from_value)
        .map_err(|error| ErrorResponse::bad_request(format!("the body must be {shape}: {error}")))
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<HttpResponse, ErrorResponse> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| ErrorResponse::internal(format!("cannot write JSON: {error}")))?;
    text.push(b'\n');
    Ok(with_type(status, JSON, text))
}

fn into_response(refusal: ErrorResponse) -> HttpResponse {
    let ErrorResponse { status, message, allow } = refusal;
    let mut response = json(status, &ErrorReport { error: message })
        .unwrap_or_else(|_| with_type(StatusCode::INTERNAL_SERVER_ERROR, JSON, Vec::new()));
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
