//! Finds servers that have the library: processes that hold a segment.

use crate::error::{Error, Result};
use perquery_agent::segment::layout::{MEMFD_NAME, header};
use perquery_agent::segment::reader::Mapping;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A server and its segment.
pub struct Server {
    /// The process to watch: the one that made the segment, if it lives.
    pub pid: u32,
    /// Its executable.
    pub exe: String,
    /// Its segment.
    pub mapping: Mapping,
}

impl Server {
    /// `mariadb`, `mysql`, `postgresql`, or the program's name.
    pub fn kind(&self) -> String {
        kind_of(&self.exe)
    }
}

/// The kind of a server by its executable's name.
pub fn kind_of(exe: &str) -> String {
    let name = exe.trim_end_matches(" (deleted)").rsplit('/').next().unwrap_or_default();
    match name {
        "mariadbd" => "mariadb".to_owned(),
        "mysqld" => "mysql".to_owned(),
        "postgres" | "postmaster" => "postgresql".to_owned(),
        other => other.to_owned(),
    }
}

/// The descriptors of process `pid` that are segments.
fn segment_paths(pid: u32) -> io::Result<Vec<PathBuf>> {
    let name = format!("/memfd:{}", MEMFD_NAME.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with(&name)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Name of a process as /proc/PID/comm has it.
fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// The executable of a process; empty when it may not be seen.
pub fn exe_of(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Start time of a process in clock ticks since boot (/proc/PID/stat, field 22); `None` when it is dead, also when its
/// parent has not waited for it yet.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The server that process `pid` belongs to.
pub fn server(pid: u32) -> Result<Server> {
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(Error::new(format!(
            "there is no process {pid}; 'perquery list' shows the servers of this host"
        )));
    }
    let paths = segment_paths(pid).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => no_permission(pid),
        _ => Error::new(format!("process {pid} can't be looked at: {e}")),
    })?;
    let Some(path) = paths.first() else {
        return Err(Error::new(format!(
            "process {pid} ({}) does not have perquery's library; restart it with LD_PRELOAD=libperquery.so or under \
             'perquery run'; 'perquery doctor -p {pid}' says what is in the way",
            name_of(pid)
        )));
    };
    let file = open(path).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => no_permission(pid),
        _ => Error::new(format!("the segment of process {pid} can't be opened: {e}")),
    })?;
    let mapping = Mapping::open(&file)
        .map_err(|e| Error::new(format!("the segment of process {pid} can't be used: {e}")))?;
    let (maker, exe) = {
        let segment = mapping.segment().map_err(|e| Error::new(e.to_string()))?;
        let mut exe = [0; header::EXE_WORDS * 8];
        let n = segment.exe(&mut exe);
        let exe = String::from_utf8_lossy(exe.get(..n).unwrap_or(&[])).into_owned();
        (u32::try_from(segment.word(header::PID).load(Ordering::Relaxed)).unwrap_or(0), exe)
    };
    // The maker as it calls itself is another number in another pid namespace.
    let same = |candidate: u32| segment_paths(candidate).is_ok_and(|paths| !paths.is_empty());
    let pid = if maker != 0 && same(maker) { maker } else { pid };
    Ok(Server { pid, exe: if exe.is_empty() { exe_of(pid) } else { exe }, mapping })
}

fn no_permission(pid: u32) -> Error {
    Error::new(format!(
        "no permission to look into process {pid} ({}); run perquery as root or as the server's user",
        name_of(pid)
    ))
}

/// All servers of this host that may be looked at, by pid, and how many processes could not be.
pub fn servers() -> (Vec<Server>, usize) {
    let mut by_inode: BTreeMap<(u64, u64), Vec<u32>> = BTreeMap::new();
    let mut hidden = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        match segment_paths(pid) {
            Ok(paths) => {
                for path in paths {
                    if let Ok(about) = fs::metadata(&path) {
                        by_inode.entry((about.dev(), about.ino())).or_default().push(pid);
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            Err(_) => {}
        }
    }
    let mut found = Vec::new();
    for mut pids in by_inode.into_values() {
        // `perquery run` and a recording collector hold the segment too, but are not the server.
        pids.sort_by_key(|pid| (name_of(*pid) == "perquery", *pid));
        if pids.first().is_some_and(|pid| name_of(*pid) != "perquery")
            && let Some(server) = pids.first().and_then(|pid| server(*pid).ok())
        {
            found.push(server);
        }
    }
    found.sort_by_key(|s| s.pid);
    (found, hidden)
}
