//! `memzip serve`: serves a compressed disk over NBD until a signal ends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nbd::{Listen, RefusalLog, Server, ServerConfig, UnixAccess};
use zram::{Access, Zram, ZramConfig};

use crate::cli::Serve;
use crate::control::{ControlPlane, Maintenance, MaintenanceConfig, ServerState};
use crate::runtime_dir::{CONTROL, NBD, RuntimeDir};
use crate::signals::{SocketFiles, end_on_signal};
use crate::sizes::human;
use crate::{output, warnings};

/// The file that maps names of groups to numbers.
const GROUP_FILE: &str = "/etc/group";

/// Serves until SIGTERM, SIGINT or SIGHUP, then finishes the requests in flight.
pub(crate) fn run(args: Serve) -> Result<()> {
    // Each client needs one file. The usual limit protects programs that use select(2).
    sys::host::raise_open_files();
    let (listen, shown) = address(&args)?;
    let control = match &args.control {
        Some(path) => path.clone(),
        None => RuntimeDir::open()?.socket(CONTROL),
    };
    if let Listen::Unix(path) = &listen {
        ensure!(
            !is_same(path, &control),
            "--unix and --control are both {shown}: give each a socket of its own"
        );
    }
    output::start_log()?;
    let size = human(args.size.0);
    let disk = Zram::new(config(&args)).with_context(|| {
        format!("cannot make a disk of {size} (\"memzip doctor\" shows what this host allows)")
    })?;
    disk.on_nearly_full(warnings::nearly_full);
    let disk = Arc::new(disk);
    warnings::catch_memory_failures(&disk)?;
    let server = Server::bind(listen, Arc::clone(&disk) as _, server_config(&args)?)
        .with_context(|| format!("cannot serve at {shown}"))?;
    server.log_refusals(RefusalLog::new(output::warn));
    let sockets = SocketFiles::default();
    sockets.extend(server.socket_file());
    // Before the URI is printed: a program that reads it may send a signal next.
    end_on_signal(server.handle(), sockets.clone())?;
    let maintenance = MaintenanceConfig {
        balloon: args.balloon.unwrap_or_default(),
        pressure_settings: args.balloon_pressure.unwrap_or_default(),
        background: args.compact_background.0,
    };
    let maintenance = Maintenance::start(&disk, maintenance)?;
    let state = Arc::new(ServerState::new(Arc::clone(&disk), maintenance, &server));
    let control = sockets.add(|| ControlPlane::start(control, state), ControlPlane::socket_file)?;
    output::print(&format!("{}\n", server.uri()))?;
    server.run().context("the server failed")?;
    drop(control);
    output::flush_log();
    // Dropping the disk would visit each of its pages; the OS frees all memory at once.
    std::mem::forget(disk);
    Ok(())
}

fn config(args: &Serve) -> ZramConfig {
    ZramConfig {
        algorithm: args.algorithm,
        mem_limit: args.mem_limit,
        // The arena is no larger than the limit, so the balloon takes memory and not unused space.
        arena: args.mem_limit,
        access: if args.read_only { Access::ReadOnly } else { Access::ReadWrite },
        chain: args.chain,
        movability: args.movability,
        hot_cache: args.hot_cache,
        ..ZramConfig::new(args.size)
    }
}

fn server_config(args: &Serve) -> Result<ServerConfig> {
    let group = args.socket_group.as_deref().map(group_number).transpose()?;
    Ok(ServerConfig {
        export_name: args.export_name.clone(),
        access: UnixAccess { mode: args.socket_mode, group, users: args.allow_uid.clone() },
        max_connections: args.max_connections as usize,
        handshake_timeout: args.handshake_timeout,
        send_timeout: args.send_timeout,
        idle_timeout: args.idle_timeout,
        shutdown_grace: args.shutdown_grace,
        ..ServerConfig::default()
    })
}

/// Returns the number of a group given by name or number.
///
/// # Errors
/// `/etc/group` cannot be read or has no such group.
fn group_number(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let file =
        std::fs::read_to_string(GROUP_FILE).with_context(|| format!("cannot read {GROUP_FILE}"))?;
    find_group(&file, group).with_context(|| {
        format!("{GROUP_FILE} has no group \"{group}\": give another name or a number")
    })
}

/// Finds the number of `name` in lines of the form `name:password:number:members`.
fn find_group(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

/// Returns the address to listen on and its text for messages.
fn address(args: &Serve) -> Result<(Listen, String)> {
    if let Some(port) = args.port {
        // Other machines only on request: the protocol has no password.
        let address = SocketAddr::new(args.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()), port);
        return Ok((Listen::Tcp(address), address.to_string()));
    }
    let path = match &args.unix {
        Some(path) => path.clone(),
        None => RuntimeDir::open()?.socket(NBD),
    };
    let shown = path.display().to_string();
    Ok((Listen::Unix(path), shown))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_or_number() {
        let file = "root:x:0:\nbroken\nkvm:x:106:anna,bert\nkv:x:7:";
        let find = |name| find_group(file, name);
        assert_eq!(
            (find("kvm"), find("kv"), find("broken"), find("anna")),
            (Some(106), Some(7), None, None)
        );
        assert_eq!(group_number("4242").expect("a number"), 4242);
        assert!(group_number("no such group").is_err());
    }
}
