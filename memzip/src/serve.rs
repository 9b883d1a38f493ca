//! `memzip serve`: serves a compressed disk over NBD until a signal ends it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use block::Bytes;
use nbd::{Listen, RefusalLog, Server, ServerConfig, UnixAccess};
use zram::{Access, Zram, ZramConfig};

use crate::cli::Serve;
use crate::control::{ControlPlane, Maintenance, MaintenanceConfig, ServerState};
use crate::groups;
use crate::memory_failure;
use crate::nearly_full;
use crate::output;
use crate::runtime_dir::RuntimeDir;
use crate::signals::{SocketFiles, end_on_signal};

/// Serves until SIGTERM, SIGINT or SIGHUP, then finishes the requests in flight.
pub(crate) fn run(args: Serve) -> Result<()> {
    // Each client needs one file. The usual limit of 1024 protects programs that use select(2);
    // this server polls.
    sys::host::raise_open_files();
    // Choose the sockets.
    let (listen, shown) = address(&args)?;
    let control = match &args.control {
        Some(path) => path.clone(),
        None => RuntimeDir::open()?.control_socket(),
    };
    if let Listen::Unix(path) = &listen {
        ensure!(
            !is_same(path, &control),
            "--unix and --control are both {shown}: give each a socket of its own"
        );
    }
    output::start_log()?;
    // Create the disk and bind the NBD server.
    let disk = Zram::new(config(&args)).with_context(|| {
        format!(
            "cannot make a disk of {} (\"memzip doctor\" shows what this host allows)",
            args.size
        )
    })?;
    disk.on_nearly_full(nearly_full::warn);
    let disk = Arc::new(disk);
    memory_failure::catch(&disk)?;
    let settings = server_config(&args)?;
    let server = Server::bind(listen, Arc::clone(&disk) as _, settings)
        .with_context(|| format!("cannot serve at {shown}"))?;
    server.log_refusals(RefusalLog::new(output::warn));
    let sockets = SocketFiles::default();
    sockets.extend(server.socket_file());
    // Before the URI is printed: a program that reads it may send a signal next.
    end_on_signal(server.handle(), sockets.clone())?;
    // Start maintenance and the control plane, then serve.
    let maintenance = Maintenance::start(&disk, maintenance_config(&args))?;
    let state = Arc::new(ServerState::new(Arc::clone(&disk), maintenance, &server));
    let control = sockets.add(|| ControlPlane::start(control, state), ControlPlane::socket_file)?;
    output::print(&format!("{}\n", server.uri()))?;
    server.run().context("the server failed")?;
    drop(control);
    output::flush_log();
    // Dropping the disk would visit each of its pages. The OS frees the memory of the process as a
    // whole.
    std::mem::forget(disk);
    Ok(())
}

fn config(args: &Serve) -> ZramConfig {
    ZramConfig {
        algorithm: args.algorithm,
        mem_limit: args.mem_limit.map(|limit| Bytes(limit.0)),
        // The arena is no larger than the limit, so the balloon takes memory and not unused space.
        arena: args.mem_limit.map(|limit| Bytes(limit.0)),
        access: if args.read_only { Access::ReadOnly } else { Access::ReadWrite },
        chain: args.chain,
        movability: args.movability.into(),
        hot_cache: args.hot_cache.map(|size| Bytes(size.0)),
        ..ZramConfig::new(Bytes(args.size.0))
    }
}

fn server_config(args: &Serve) -> Result<ServerConfig> {
    let group = args.socket_group.as_deref().map(groups::number).transpose()?;
    Ok(ServerConfig {
        export_name: args.export_name.clone(),
        access: UnixAccess { mode: args.socket_mode, group, users: args.allow_uid.clone() },
        max_connections: args.max_connections as usize,
        handshake_timeout: args.handshake_timeout.0,
        send_timeout: args.send_timeout.0,
        idle_timeout: args.idle_timeout.map(|time| time.0),
        shutdown_grace: args.shutdown_grace.0,
        ..ServerConfig::default()
    })
}

fn maintenance_config(args: &Serve) -> MaintenanceConfig {
    MaintenanceConfig {
        balloon: args.balloon.unwrap_or_default(),
        pressure_settings: args.balloon_pressure.unwrap_or_default(),
        background: args.compact_background.0,
    }
}

/// Returns the address to listen on and its text for messages.
fn address(args: &Serve) -> Result<(Listen, String)> {
    match (&args.unix, args.port) {
        (Some(path), _) => Ok(at_socket(path.clone())),
        (None, Some(port)) => {
            // Other machines only on request: the protocol has no password.
            let address =
                SocketAddr::new(args.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
            Ok((Listen::Tcp(address), address.to_string()))
        }
        (None, None) => Ok(at_socket(RuntimeDir::open()?.nbd_socket())),
    }
}

/// Returns whether two paths, at which nothing exists yet, name the same place.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    one == other || place(one).is_some_and(|here| place(other) == Some(here))
}

fn at_socket(path: PathBuf) -> (Listen, String) {
    let shown = path.display().to_string();
    (Listen::Unix(path), shown)
}
