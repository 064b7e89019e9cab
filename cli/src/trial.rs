//! Would the dynamic linker take these objects into this program before it starts? Asked of the dynamic linker itself,
//! which then lists what it would do and does not start the program.

use crate::error::{Error, Result};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tries with the first word of the command that is a dynamically linked program: a shell script in front of it, such
/// as valgrind's, is not what the plugin belongs to.
pub fn try_preload(command: &[OsString], paths: &[PathBuf]) -> Result<()> {
    let Some(program) = command.iter().find_map(|word| dynamic_program(word)) else {
        return Err(Error::new(
            "--keep=preload finds no dynamically linked program in the command; use --keep=nodelete",
        ));
    };
    let list = paths.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"));
    let said = Command::new(&program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_WARN", "yes")
        .env("LD_BIND_NOW", "1")
        .env("LD_PRELOAD", list)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::new(format!("the program {} can't be started: {e}", program.display())))?;
    let said = [said.stdout, said.stderr].concat();
    match refusal(&String::from_utf8_lossy(&said), paths) {
        None => Ok(()),
        Some(why) => Err(Error::new(format!(
            "the plugin can't be preloaded into {}: {why}; use --keep=nodelete",
            program.display()
        ))),
    }
}

/// What the dynamic linker said against one of `paths`.
fn refusal(said: &str, paths: &[PathBuf]) -> Option<String> {
    let about_ours = |line: &&str| paths.iter().any(|path| line.contains(&*path.to_string_lossy()));
    let mut undefined = Vec::new();
    for line in said.lines().filter(about_ours) {
        if let Some((_, rest)) = line.split_once("undefined symbol: ") {
            undefined.push(rest.split([' ', '\t', ',']).next().unwrap_or(rest));
        } else if line.contains("cannot be preloaded") {
            let why = line.rsplit_once('(').map_or(line, |(_, why)| why);
            return Some(why.split(')').next().unwrap_or(why).to_owned());
        }
    }
    let first = undefined.first()?;
    let more = match undefined.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "nothing defines its symbol {first}{more} at the program's start (the program does not export it, or what \
         exports it is loaded later)"
    ))
}

/// The program that a word of the command names, if it is dynamically linked.
fn dynamic_program(word: &OsStr) -> Option<PathBuf> {
    let path = if word.as_encoded_bytes().contains(&b'/') {
        PathBuf::from(word)
    } else {
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(word)).find(|path| path.is_file())?
    };
    // valgrind's own launcher is one as well, and it starts the program itself.
    let launcher = matches!(path.file_name()?.to_str(), Some("env" | "nice" | "setpriv" | "valgrind.bin"));
    (!launcher && has_interpreter(&path) == Some(true)).then_some(path)
}

/// Does this ELF file ask for a dynamic linker?
fn has_interpreter(path: &Path) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(4096).read_to_end(&mut head).ok()?;
    // A 64-bit little-endian file; the program headers follow the file header in every linker's output.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(*head.get(at..)?.first_chunk()?)));
    let offset = usize::try_from(u64::from_le_bytes(*head.get(32..)?.first_chunk()?)).ok()?;
    let (size, count) = (half(54)?, half(56)?);
    Some((0..count).any(|at| {
        let header = offset.checked_add(at * size).and_then(|from| head.get(from..)?.first_chunk());
        header.is_some_and(|kind| u32::from_le_bytes(*kind) == PT_INTERP)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_libraries_scripts_and_nonsense() {
        let this = env::current_exe().expect("a running program has a path");
        assert_eq!(dynamic_program(this.as_os_str()), Some(this));
        assert!(dynamic_program(OsStr::new("sh")).is_some());
        for other in ["/", "/nowhere", "/etc/passwd", "no such program", "--option", ""] {
            assert_eq!(dynamic_program(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn the_linkers_complaints_about_our_objects_are_told_from_others() {
        let paths = [PathBuf::from("/x/plugin.so")];
        let undefined =
            "undefined symbol: thd_proc_info\t(/x/plugin.so)\nundefined symbol: a\t(/x/plugin.so)\n";
        let why = refusal(undefined, &paths).expect("refused");
        assert!(why.contains("thd_proc_info and 1 more"), "{why}");
        let missing = "ERROR: ld.so: object '/x/plugin.so' from LD_PRELOAD cannot be preloaded (invalid ELF header): \
                       ignored.";
        assert_eq!(refusal(missing, &paths).as_deref(), Some("invalid ELF header"));
        assert_eq!(
            refusal("undefined symbol: b\t(/x/other.so)\n\tlibc.so.6 => /lib/libc.so.6\n", &paths),
            None
        );
    }
}
