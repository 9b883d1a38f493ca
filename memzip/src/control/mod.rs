//! The control plane: HTTP with JSON on a unix socket, so that `curl --unix-socket` works.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/stat` | [`stat_json::StatReport`] |
//! | `POST /v1/compact`, body `{"objects": true, "frames": true, "budget_ms": N}`, a part of it, or nothing | [`compact_json::CompactReport`] |
//! | `POST /v1/balloon`, body `{"target": BYTES}`, `"auto"` or `"off"` | [`balloon_json::BalloonChange`] |
//! | `GET /metrics` | the same numbers for Prometheus |
//!
//! It runs on one thread of its own with a current-thread runtime, so that it can neither slow the data path down nor be starved by it.
//! The socket is 0600 and the peer must be this user or root. Everything a client can do is bounded: connections, time, body length, one
//! request a connection, one compaction at a time. A client that holds a place without asking loses
//! it to the next client.

pub(crate) mod balloon_json;
pub(crate) mod client;
pub(crate) mod compact_json;
mod compaction;
mod connection_slots;
mod http;
mod maintenance;
mod metrics;
mod movement;
pub(crate) mod movement_json;
mod server_state;
pub(crate) mod stat_json;
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

/// What a client may take.
#[derive(Clone, Copy, Debug)]
struct ClientLimits {
    /// Connections at once. When there are more, the oldest that is not being answered makes room for the next.
    connections: usize,
    /// How long a connection keeps its place in any case; the next ones wait in the listen queue.
    eviction_grace: Duration,
    /// How long a client may take to send its request line and headers.
    header_timeout: Duration,
    /// The longest a connection lives.
    connection_timeout: Duration,
}

const CLIENT_LIMITS: ClientLimits = ClientLimits {
    connections: 64,
    eviction_grace: Duration::from_millis(250),
    header_timeout: Duration::from_secs(2),
    // A whole compaction, and some time to fetch the answer.
    connection_timeout: Duration::from_secs(http::MAX_COMPACTION.as_secs() + 60),
};

/// Threads that run requests beside the event loop.
const MAX_WORKERS: usize = 4;

/// A control plane that runs; it ends, and its socket goes, when the value is dropped.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    socket: Arc<BoundSocket>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Listens at `path` and answers for `state`.
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
        // The thread may have ended by itself; then there is nobody to tell.
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
            // This user and root may ask; nobody else, whatever the mode of the socket's folder.
            Ok((stream, _)) => match socket.check_peer(&stream) {
                Ok(()) => {
                    let slot = slots.acquire().await;
                    tokio::spawn(serve_until_evicted(slot, stream, routes.clone(), limits));
                }
                Err(refusal) => refusals.note(refusal),
            },
            // Out of descriptors, most likely: wait for one instead of spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one connection until it is done, out of time, or has to make room for another.
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
    // What the client did wrong it was told in the answer, if it still listens.
    let _ = connection.await;
}
