//! Where libperquery.so is.

use crate::error::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};

const NAME: &str = "libperquery.so";

/// The library: named by PERQUERY_LIBRARY, beside this program, or in `../lib/perquery/`.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = env::var_os("PERQUERY_LIBRARY") {
        let path = PathBuf::from(named);
        if path.is_file() {
            return usable(path);
        }
        return Err(Error::new(format!(
            "PERQUERY_LIBRARY names {}, which is not a file; correct it or unset it",
            path.display()
        )));
    }
    let places = places();
    match places.iter().find(|p| p.is_file()) {
        Some(path) => usable(path.clone()),
        None => Err(Error::new(format!(
            "{NAME} was not found at {}; build it with 'cargo build --release' or set PERQUERY_LIBRARY to its path",
            places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" nor at ")
        ))),
    }
}

fn places() -> Vec<PathBuf> {
    let exe = env::current_exe().unwrap_or_default();
    let folder = exe.parent().unwrap_or(Path::new("."));
    vec![folder.join(NAME), folder.join("../lib/perquery").join(NAME)]
}

/// The dynamic linker separates the paths in LD_PRELOAD by spaces and colons and knows no quoting.
pub fn usable(path: PathBuf) -> Result<PathBuf> {
    let path = path.canonicalize().unwrap_or(path);
    if path.to_string_lossy().contains([' ', ':']) {
        return Err(Error::new(format!(
            "{} can't be preloaded, because its path has a space or a colon; put the library somewhere else and set \
             PERQUERY_LIBRARY",
            path.display()
        )));
    }
    Ok(path)
}
