//! Points the functions that a running server imports past the library and back: one server, with and without hooks.
//!
//! A program calls libc through slots that the loader has filled (its global offset table); a preloaded library is in
//! between because they were filled with its functions. Writing libc's own into them takes it out of the way, and leaves
//! everything else as it is: the memory, the threads, the caches' contents.

use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment, ObjectSymbol, ObjectSymbolTable, RelocationTarget};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One process's slots that lead into the library.
pub struct Imports {
    memory: File,
    slots: Vec<Slot>,
}

struct Slot {
    address: u64,
    hook: u64,
    original: u64,
}

/// Where a file lies in a process.
struct Mapped {
    path: String,
    start: u64,
    end: u64,
}

impl Imports {
    /// Finds the slots of the program of process `pid` that lead into the library at `library`.
    pub fn of(pid: u32, library: &Path) -> Result<Self, String> {
        let mapped = mapped_files(pid);
        let at = |wanted: &dyn Fn(&str) -> bool| mapped.iter().find(|m| wanted(&m.path));
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        let hooks = at(&|path| path.ends_with(&*name)).ok_or("it does not have the library")?;
        let libc = at(&|path| path.ends_with("/libc.so.6")).ok_or("it does not have libc.so.6")?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|e| e.to_string())?;
        let program = at(&|path| Path::new(path) == program).ok_or("its program is not mapped")?;
        let originals = functions(libc)?;

        let bytes = std::fs::read(&program.path).map_err(|e| e.to_string())?;
        let elf = ElfFile64::<object::LittleEndian>::parse(&*bytes).map_err(|e| e.to_string())?;
        let bias = bias(program, &elf);
        let symbols = elf.dynamic_symbol_table().ok_or("its program imports nothing")?;
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.map_err(|e| format!("/proc/{pid}/mem: {e}"))?;
        let mut slots = Vec::new();
        for (offset, relocation) in elf.dynamic_relocations().into_iter().flatten() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let name = symbols.symbol_by_index(symbol).and_then(|s| s.name()).unwrap_or_default();
            let Some(&original) = originals.get(name) else { continue };
            let address = bias.wrapping_add(offset);
            let mut value = [0; 8];
            if memory.read_exact_at(&mut value, address).is_err() {
                continue;
            }
            let hook = u64::from_le_bytes(value);
            if (hooks.start..hooks.end).contains(&hook) {
                slots.push(Slot { address, hook, original });
            }
        }
        match slots.is_empty() {
            true => Err("none of its imports leads into the library".to_owned()),
            false => Ok(Imports { memory, slots }),
        }
    }

    /// Lets them lead into the library, or past it.
    pub fn set(&self, hooked: bool) {
        for slot in &self.slots {
            let to = if hooked { slot.hook } else { slot.original };
            // Of a process that has ended meanwhile nothing is left to be pointed anywhere.
            let _ = self.memory.write_all_at(&to.to_le_bytes(), slot.address);
        }
    }
}

/// From the first to the last mapping of each file.
fn mapped_files(pid: u32) -> Vec<Mapped> {
    let mut files: Vec<Mapped> = Vec::new();
    for line in harness::proc::maps(pid).lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(path)) = (words.next(), words.nth(4)) else { continue };
        let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap_or(0);
        let (start, end) = range.split_once('-').map_or((0, 0), |(start, end)| (number(start), number(end)));
        match files.iter_mut().find(|file| file.path == path) {
            Some(file) => file.end = end,
            None => files.push(Mapped { path: path.to_owned(), start, end }),
        }
    }
    files
}

/// What to add to a file's addresses to get those in the process.
fn bias(mapped: &Mapped, elf: &ElfFile64<'_, object::LittleEndian>) -> u64 {
    const PAGE: u64 = 4096;
    mapped.start.wrapping_sub(elf.segments().map(|s| s.address() / PAGE * PAGE).min().unwrap_or(0))
}

/// The functions that a library exports, by name, where it is in the process. Not those that are chosen at load time
/// (IFUNC): their symbol is not their address.
fn functions(mapped: &Mapped) -> Result<HashMap<String, u64>, String> {
    let bytes = std::fs::read(&mapped.path).map_err(|e| format!("{}: {e}", mapped.path))?;
    let elf =
        ElfFile64::<object::LittleEndian>::parse(&*bytes).map_err(|e| format!("{}: {e}", mapped.path))?;
    let bias = bias(mapped, &elf);
    let functions =
        elf.dynamic_symbols().filter(|s| s.is_definition() && s.kind() == object::SymbolKind::Text);
    let named = functions.filter_map(|s| Some((s.name().ok()?.to_owned(), bias.wrapping_add(s.address()))));
    Ok(named.collect())
}
