//! Directories, ports and users of one test.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A directory of the test's own that every user may enter, removed at the end.
pub fn directory(purpose: &str) -> TempDir {
    let dir =
        tempfile::Builder::new().prefix(&format!("pq-{purpose}-")).tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("own directory");
    dir
}

/// A loopback port that nobody uses now. Another process may take it before the server does; servers are therefore
/// started again with another one when they don't come up.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("bound").port()
}

/// A user of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// Looks a user up by name, in the file that servers' packages write their users to.
pub fn user(name: &str) -> Option<User> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// Do the tests run as root? Else servers run as whoever runs the tests.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Hands a file or directory over.
pub fn give_to(path: &Path, user: User) {
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("root may give files away");
}

/// Runs a short command to its end and answers its standard output; panics with both outputs when it fails.
#[track_caller]
pub fn output_of(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{command:?} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
        done.status,
        text(&done.stdout),
        text(&done.stderr)
    );
    text(&done.stdout)
}
