//! The control plane: HTTP with JSON on a unix socket, for `memzip stat` and `curl --unix-socket`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/stat` | [`stat_json::StatReport`] |
//! | `POST /v1/compact` | [`change_json::CompactReport`] |
//! | `POST /v1/balloon` | [`change_json::BalloonChange`] |
//! | `POST /v1/mem_limit`, `POST /v1/mem_used_max` | [`change_json::LimitReport`] |
//! | `GET /metrics` | the same numbers for Prometheus |
//!
//! The body of `/v1/compact` is `{"objects": true, "frames": true, "budget_ms": N}`, a part of it,
//! or nothing. The body of `/v1/balloon` is `{"target": BYTES}`, `{"target": "auto"}` or
//! `{"target": "off"}`. The bodies of the other two are `{"mem_limit": BYTES}`, where 0 is no
//! limit, and `{"mem_used_max": 0}`.
//!
//! The control plane runs on one thread with a current-thread runtime, so it neither slows the data
//! path nor is starved by it. The socket has mode 0600, and the peer must be this user or root.
//! Everything a client can do is bounded: connections, time, body length, one request a connection,
//! one compaction at a time. A connection that sends nothing is evicted for the next client.

pub(crate) mod change_json;
mod maintenance;
pub(crate) mod stat_json;
pub(crate) mod client;
mod compaction;
mod server_state;
mod metrics;
mod connection_slots;
mod http;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nbd::{BoundSocket, RefusalLog, SocketFile};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::output;
use connection_slots::{ConnectionSlot, ConnectionSlots};
use http::Routes;
pub(crate) use maintenance::{Maintenance, MaintenanceConfig};
pub(crate) use server_state::ServerState;

/// Limits on clients.
#[derive(Clone, Copy, Debug)]
struct ClientLimits {
    /// Maximum number of connections. At the limit the oldest one that is not being answered is
    /// evicted for the next client.
    connections: usize,
    /// Time in which a connection is not evicted; the next ones wait in the listen queue.
    eviction_grace: Duration,
    /// Time limit to send the request line and headers.
    header_timeout: Duration,
    /// Maximum lifetime of a connection.
    connection_timeout: Duration,
}

const CLIENT_LIMITS: ClientLimits = ClientLimits {
    connections: 64,
    eviction_grace: Duration::from_millis(250),
    header_timeout: Duration::from_secs(2),
    // A whole compaction, and some time to receive the answer.
    connection_timeout: Duration::from_secs(http::MAX_COMPACTION.as_secs() + 60),
};

/// Maximum number of threads that run requests beside the event loop.
const MAX_WORKERS: usize = 4;

/// A running control plane; dropping it stops it and removes its socket.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    socket: Arc<BoundSocket>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Listens at `path` and answers requests about `state`.
    ///
    /// # Errors
    /// The path cannot be bound, or the thread cannot be started.
    pub(crate) fn start(path: PathBuf, state: Arc<ServerState>) -> Result<Self> {
        Self::with_limits(path, Routes::new(state), CLIENT_LIMITS)
    }

    /// Returns the file that names the control socket.
    pub(crate) fn socket_file(&self) -> SocketFile {
        self.socket.file()
    }

    fn with_limits(path: PathBuf, routes: Routes, limits: ClientLimits) -> Result<Self> {
        let shown = path.display().to_string();
        let socket =
            Arc::new(BoundSocket::bind(path).with_context(|| format!("cannot answer at {shown}"))?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MAX_WORKERS)
            .build()
            .context("cannot start the control plane")?;
        let listener = {
            let _inside = runtime.enter();
            socket
                .listener()
                .and_then(UnixListener::from_std)
                .context("cannot watch the control socket")?
        };
        // Accept clients on a thread until `stop` is sent or dropped.
        let checks = Arc::clone(&socket);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, &checks, routes, limits) => {}
                        _ = stopped => {}
                    }
                });
                // A compaction in progress must not hold up the end of the process.
                runtime.shutdown_background();
            })
            .context("cannot start the control thread")?;
        Ok(Self { socket, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The send fails if the thread has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(
    listener: UnixListener,
    socket: &BoundSocket,
    routes: Routes,
    limits: ClientLimits,
) {
    let slots = ConnectionSlots::new(limits.connections, limits.eviction_grace);
    let refusals = RefusalLog::new(|line| output::warn(&format!("control socket: {line}")));
    loop {
        match listener.accept().await {
            // Only this user and root may connect, whatever the mode of the socket's folder.
            Ok((stream, _)) => match socket.check_peer(&stream) {
                Ok(()) => {
                    let slot = slots.acquire().await;
                    tokio::spawn(serve_until_evicted(slot, stream, routes.clone(), limits));
                }
                Err(refusal) => refusals.note(refusal),
            },
            // Most likely out of file descriptors: wait for one to be closed instead of spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one connection until it is done, out of time, or evicted.
async fn serve_until_evicted(
    slot: ConnectionSlot,
    stream: UnixStream,
    routes: Routes,
    limits: ClientLimits,
) {
    let connection = serve(stream, routes.for_connection(slot.connection()), limits.header_timeout);
    tokio::select! {
        _ = tokio::time::timeout(limits.connection_timeout, connection) => {}
        () = slot.evicted() => {}
    }
}

async fn serve(stream: UnixStream, routes: Routes, header_timeout: Duration) {
    let answer = service_fn(move |request| routes.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(16 << 10)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // An error of the client is already in the answer.
    let _ = connection.await;
}
