//! The release builds of the library and the command, made once per test run.
//!
//! `cargo test` builds neither another package's binary nor a cdylib, so the first test that asks runs a nested
//! `cargo build`. Both are copied into a directory that every user may read: servers run as their own users.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where cargo puts this run's artifacts: three parents above a running test (`target/<profile>/deps/x`), two above a
/// program (`target/<profile>/x`).
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the running test has a path");
    let is_test = exe.parent().is_some_and(|directory| directory.ends_with("deps"));
    exe.ancestors().nth(if is_test { 3 } else { 2 }).expect("it lies in target/<profile>").to_path_buf()
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package lies in the workspace")
}

/// The directory with `perquery` and `libperquery.so` beside each other, readable by everybody.
pub fn directory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // To test an installation, or a build of another profile.
        if let Some(release) = std::env::var_os("PERQUERY_TEST_ARTIFACTS") {
            return publish(Path::new(&release));
        }
        let target = target_dir();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--release", "-p", "perquery-preload", "-p", "perquery-cli"])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(root())
            // The model checker's and the fuzzer's flags are not for what is loaded into servers.
            .env_remove("RUSTFLAGS")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the library and the command do not build; see above");
        publish(&target.join("release"))
    })
}

/// The command under test.
pub fn perquery() -> PathBuf {
    directory().join("perquery")
}

/// The library under test.
pub fn library() -> PathBuf {
    directory().join("libperquery.so")
}

/// Copies the two files into the temporary directory, under a name that depends on their contents: a build directory
/// below somebody's home can't be read by the servers' users.
fn publish(release: &Path) -> PathBuf {
    let stamp = |name: &str| {
        let meta = release.join(name).metadata().unwrap_or_else(|e| panic!("{name} was not built: {e}"));
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        format!("{:x}-{:x}", modified.map_or(0, |d| d.as_nanos()), meta.len())
    };
    let name = format!("perquery-tests-{}-{}", stamp("perquery"), stamp("libperquery.so"));
    let published = std::env::temp_dir().join(name);
    if published.join("libperquery.so").exists() && published.join("perquery").exists() {
        return published;
    }
    // Renamed into place, because a second test binary may do the same.
    let staging =
        tempfile::Builder::new().prefix("perquery-tests-").tempdir().expect("a temporary directory");
    for file in ["perquery", "libperquery.so"] {
        std::fs::copy(release.join(file), staging.path().join(file)).expect("artifacts can be copied");
    }
    let staging = staging.keep();
    std::fs::set_permissions(&staging, PermissionsExt::from_mode(0o755)).expect("own directory");
    match std::fs::rename(&staging, &published) {
        Ok(()) => published,
        Err(_) if published.join("libperquery.so").exists() => {
            let _ = std::fs::remove_dir_all(&staging);
            published
        }
        Err(_) => staging,
    }
}
