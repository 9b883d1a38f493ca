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

use super::change_json::{BalloonRequest, CompactRequest, LimitRequest, PeakRequest};
use super::connection_slots::Connection;
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

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

type HttpResponse = Response<Full<Bytes>>;

/// The status and the text of a refused request.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad_request(message: impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, message.to_string())
    }

    fn internal(message: impl ToString) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, message.to_string())
    }

    fn into_response(self) -> HttpResponse {
        let report = json(&ErrorReport { error: self.1 });
        let mut response = report.unwrap_or_else(|_| with_type(JSON, Vec::new()));
        *response.status_mut() = self.0;
        response
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
        let refuse_method = |allowed| {
            let message = format!("{path} does not accept {method}: use {allowed}");
            let mut response = Refusal(StatusCode::METHOD_NOT_ALLOWED, message).into_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            Ok(response)
        };
        let is_get = matches!(method, Method::GET | Method::HEAD);
        let is_post = method == Method::POST;
        let result = match path.as_str() {
            "/v1/stat" if is_get => self.stat().await,
            "/metrics" if is_get => self.metrics().await,
            "/v1/compact" if is_post => self.compact(request).await,
            "/v1/balloon" if is_post => self.balloon(request).await,
            "/v1/mem_limit" if is_post => self.mem_limit(request).await,
            "/v1/mem_used_max" if is_post => self.mem_used_max(request).await,
            "/v1/stat" | "/metrics" => refuse_method("GET, HEAD"),
            "/v1/compact" | "/v1/balloon" | "/v1/mem_limit" | "/v1/mem_used_max" => {
                refuse_method("POST")
            }
            _ => Err(Refusal(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no path {path}: use GET /v1/stat, POST /v1/compact, POST /v1/balloon, POST /v1/mem_limit, POST /v1/mem_used_max or GET /metrics"
                ),
            )),
        };
        Ok(result.unwrap_or_else(Refusal::into_response))
    }

    /// Takes the permit that a compaction in progress holds.
    #[cfg(test)]
    pub(super) fn hold_compaction(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.compaction).try_acquire_owned().expect("no compaction is running")
    }

    async fn stat(&self) -> Result<HttpResponse, Refusal> {
        let report = self.blocking(|state| state.stat()).await?;
        json(&report)
    }

    async fn metrics(&self) -> Result<HttpResponse, Refusal> {
        let text = self.blocking(|state| metrics::text(&state.stat())).await?;
        Ok(with_type(PROMETHEUS, text.into_bytes()))
    }

    async fn compact(&self, http: Request<Incoming>) -> Result<HttpResponse, Refusal> {
        let shape =
            "{\"objects\": true, \"frames\": true, \"budget_ms\": N}, a part of it, or nothing";
        let request: CompactRequest = parse(http, shape).await?;
        if !request.objects && !request.frames {
            return Err(Refusal::bad_request(
                "\"objects\" and \"frames\" are both false, so there is nothing to do: set one of them to true",
            ));
        }
        // One at a time: a second one would only wait for the first one's locks.
        let permit = Arc::clone(&self.compaction).try_acquire_owned().map_err(|_| {
            let message = "another compaction is running: try again when it has ended";
            Refusal(StatusCode::CONFLICT, message.to_owned())
        })?;
        let budget =
            request.budget_ms.map_or(MAX_COMPACTION, Duration::from_millis).min(MAX_COMPACTION);
        let report = self
            .blocking(move |state| {
                // Not the request: a client that disconnects must not admit a second compaction.
                let _permit = permit;
                state.compact(request, budget)
            })
            .await?;
        json(&report)
    }

    async fn balloon(&self, http: Request<Incoming>) -> Result<HttpResponse, Refusal> {
        let shape = "{\"target\": BYTES}, {\"target\": \"auto\"} or {\"target\": \"off\"}";
        let BalloonRequest { target } = parse(http, shape).await?;
        // Balloon requests may overlap: the last one counts and ends the one under way.
        match self.blocking(move |state| state.maintenance.set_balloon(target)).await? {
            Ok(change) => json(&change),
            Err(refusal @ BalloonRefusal::Auto(_)) => Err(Refusal::internal(refusal)),
            Err(refusal) => Err(Refusal::bad_request(refusal)),
        }
    }

    async fn mem_limit(&self, http: Request<Incoming>) -> Result<HttpResponse, Refusal> {
        let LimitRequest { mem_limit } =
            parse(http, "{\"mem_limit\": BYTES}, 0 for no limit").await?;
        let change = self.blocking(move |state| state.set_mem_limit(mem_limit)).await?;
        json(&change.map_err(Refusal::bad_request)?)
    }

    async fn mem_used_max(&self, http: Request<Incoming>) -> Result<HttpResponse, Refusal> {
        let PeakRequest { mem_used_max } = parse(http, "{\"mem_used_max\": 0}").await?;
        let change = self.blocking(move |state| state.reset_mem_used_max(mem_used_max)).await?;
        json(&change.map_err(Refusal::bad_request)?)
    }

    /// Runs work that takes locks or reads /proc on another thread; the event loop goes on.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ServerState) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let state = Arc::clone(&self.state);
        // The request is complete: from here on the client waits for the server.
        let _busy = self.connection.as_deref().map(Connection::mark_busy);
        tokio::task::spawn_blocking(move || work(&state))
            .await
            .map_err(|error| Refusal::internal(format!("the request failed: {error}")))
    }
}

/// Receives and parses a body of this `shape`; an empty one counts as an empty object.
async fn parse<T: DeserializeOwned>(request: Request<Incoming>, shape: &str) -> Result<T, Refusal> {
    let whole = Limited::new(request.into_body(), MAX_BODY_LEN).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body must be at most {MAX_BODY_LEN} bytes");
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(Err(error)) => {
            return Err(Refusal::bad_request(format!("the body is incomplete: {error}")));
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Err(Refusal(StatusCode::REQUEST_TIMEOUT, message));
        }
    };
    let body = if body.trim_ascii().is_empty() { b"{}" } else { &body[..] };
    // By way of an object: serde would also accept a list of values in the order of the fields.
    let object = serde_json::from_slice(body).map(serde_json::Value::Object);
    object
        .and_then(serde_json::from_value)
        .map_err(|error| Refusal::bad_request(format!("the body must be {shape}: {error}")))
}

fn json(value: &impl Serialize) -> Result<HttpResponse, Refusal> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| Refusal::internal(format!("cannot write JSON: {error}")))?;
    text.push(b'\n');
    Ok(with_type(JSON, text))
}

fn with_type(kind: HeaderValue, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
