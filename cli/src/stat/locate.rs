//! The process at the other end of a connection of ours.
//!
//! A unix socket tells by SO_PEERCRED who listens on it. A TCP connection on this host stands twice in the kernel's
//! table, once from each end; the inode of the server's end leads to the process that holds it.

use crate::error::{Error, Result};
use procfs::net::TcpNetEntry;
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The process that listens on a unix socket.
pub fn behind_socket(path: &Path) -> Result<u32> {
    let told = UnixStream::connect(path).and_then(|stream| Ok(socket_peercred(&stream)?));
    let peer =
        told.map_err(|e| Error::new(format!("the server behind {} can't be found: {e}", path.display())))?;
    u32::try_from(peer.pid.as_raw_nonzero().get())
        .map_err(|_| Error::new(format!("the server behind {} is not in our pid namespace", path.display())))
}

/// The sockets of a process by their inodes.
fn sockets(pid: &str) -> io::Result<BTreeSet<u64>> {
    let inode = |entry: fs::DirEntry| {
        let to = fs::read_link(entry.path()).ok()?;
        to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter_map(inode).collect())
}

/// Our sockets before a connection is made, so that it can be told from them afterwards.
pub struct Before(BTreeSet<u64>);

impl Before {
    /// The sockets that are open now.
    pub fn now() -> Before {
        Before(sockets("self").unwrap_or_default())
    }

    /// The process at the other end of the TCP connection that was made since; `server` names it in errors.
    pub fn peer_of_new_connection(&self, server: &str) -> Result<u32> {
        let unknown = |e: &dyn std::fmt::Display| {
            Error::new(format!("the process behind {server} can't be found: {e}; is /proc mounted?"))
        };
        let new: BTreeSet<u64> =
            sockets("self").map_err(|e| unknown(&e))?.difference(&self.0).copied().collect();
        let mut table = procfs::net::tcp().map_err(|e| unknown(&e))?;
        // A kernel without IPv6 has no such table.
        table.extend(procfs::net::tcp6().unwrap_or_default());
        let Some(inode) = other_end(&table, &new) else {
            return Err(Error::new(format!(
                "{server} is not on this host (or in another network namespace): the counters are read where the server \
                 runs; run perquery stat there"
            )));
        };
        holder(inode).ok_or_else(|| {
            Error::new(format!(
                "the process behind {server} may not be looked at; run perquery as root or as the server's user"
            ))
        })
    }
}

/// The inode of the other end of the one connection whose end is among `ours`.
fn other_end(table: &[TcpNetEntry], ours: &BTreeSet<u64>) -> Option<u64> {
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let ends = |e: &TcpNetEntry| (canonical(e.local_address), canonical(e.remote_address));
    let (local, remote) = table.iter().find(|e| ours.contains(&e.inode)).map(ends)?;
    // Inode 0: accepted by the kernel, not yet by the server; a session that is logged in is past that.
    table.iter().find(|e| ends(e) == (remote, local) && e.inode != 0).map(|e| e.inode)
}

fn holder(inode: u64) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let pid = name.parse().ok()?;
        sockets(name).ok()?.contains(&inode).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_listener_of_a_unix_socket_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(behind_socket(&path).unwrap(), std::process::id());
        assert!(behind_socket(&directory.path().join("none")).is_err());
    }

    #[test]
    fn the_other_end_of_a_tcp_connection_is_found_also_where_ipv6_carries_ipv4() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let port = listener.local_addr().unwrap().port();
            let before = Before::now();
            let ours = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let theirs = listener.accept().unwrap();
            assert_eq!(before.peer_of_new_connection("x").unwrap(), std::process::id(), "{listen}");
            drop((ours, theirs));
        }
    }
}
