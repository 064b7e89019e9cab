//! `perquery pin`.

use super::say;
use crate::args::{Keep, Pin};
use crate::error::{Error, Result};
use crate::launch::become_program;
use crate::library;
use crate::trial::try_preload;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A pattern that is longer than the library's room for it would keep nothing.
const PATTERN_BYTES_MAX: usize = 1023;

/// What memcheck shows of objects that stay, when it is asked for memory that is still reachable: the loader's own
/// description of each. For the library itself there is nothing to suppress.
const SUPPRESSIONS: &str = "\
# For valgrind --suppressions=FILE with perquery pin and --show-leak-kinds=all or reachable.
#
# libperquery.so itself shows no error and no leak under memcheck. An object that stays keeps the loader's own
# description of it, about 1.5 KB in four blocks, reported as still reachable, never as lost.
{
   perquery-pin-objects-that-stay
   Memcheck:Leak
   match-leak-kinds: reachable
   fun:*alloc
   obj:*/ld-linux-*.so.*
}
";

/// Becomes the program, in which, and in whose children, dlclose(3) leaves code and symbols where they are.
pub fn pin(args: &Pin) -> Result<ExitCode> {
    if args.valgrind_suppressions {
        return say(SUPPRESSIONS);
    }
    let (mode, preloaded): (_, &[PathBuf]) = match &args.keep {
        Keep::NoDelete => ("nodelete", &[]),
        Keep::Skip => ("skip", &[]),
        Keep::Preload(paths) => return Err(preload(args, paths)?),
    };
    let mut libraries = vec![library::find()?];
    libraries.extend_from_slice(preloaded);
    let mut variables = vec![("PERQUERY_PIN", OsStr::new(mode))];
    if let Some(only) = &args.only {
        if only.is_empty() || only.len() > PATTERN_BYTES_MAX {
            return Err(Error::new(format!("--only takes a pattern of 1 to {PATTERN_BYTES_MAX} bytes")));
        }
        variables.push(("PERQUERY_PIN_ONLY", only));
    }
    Err(become_program(&args.command, &libraries, &variables))
}

/// The loader never unloads what was preloaded: no part of ours is needed.
fn preload(args: &Pin, paths: &[PathBuf]) -> Result<Error> {
    if args.only.is_some() {
        return Err(Error::new(
            "--only chooses among objects that are closed: it has no meaning with --keep=preload",
        ));
    }
    let paths = paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
    try_preload(&args.command, &paths)?;
    Ok(become_program(&args.command, &paths, &[]))
}

/// The program may change its directory before it starts another one.
fn absolute(path: &Path) -> Result<PathBuf> {
    let full = path.canonicalize().map_err(|e| {
        Error::new(format!("{} can't be preloaded: {e}; give the plugin's path", path.display()))
    })?;
    library::usable(full)
}
