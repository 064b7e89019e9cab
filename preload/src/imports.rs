//! Does anything in this process call a function? Asked of the loaded objects' own lists of what they import.
//!
//! # Safety
//!
//! `unsafe` is used to read the tables of objects that the dynamic linker has just loaded and read itself, within the
//! bounds that they state.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_void};
use libc::{Elf64_Sym, dl_phdr_info, size_t};

const DT_NULL: i64 = 0;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_STRSZ: i64 = 10;
const DT_GNU_HASH: i64 = 0x6fff_fef5;

/// An entry of an object's dynamic section.
#[repr(C)]
struct Entry {
    tag: i64,
    value: u64,
}

/// True when the program or one of its libraries imports `name`. From the constructor only: it takes the loader's lock.
pub fn somebody_imports(name: &CStr) -> bool {
    let mut name = name;
    // SAFETY: the callback gets back what is given here.
    unsafe { libc::dl_iterate_phdr(Some(imports), (&raw mut name).cast()) == 1 }
}

unsafe extern "C" fn imports(info: *mut dl_phdr_info, _: size_t, name: *mut c_void) -> c_int {
    // SAFETY: the pointer that was given above.
    let name = unsafe { *name.cast::<&CStr>() };
    // SAFETY: the loader's description of one object.
    c_int::from(unsafe { object_imports(&*info, name) } == Some(true))
}

unsafe fn object_imports(info: &dl_phdr_info, name: &CStr) -> Option<bool> {
    let base = info.dlpi_addr;
    let headers = (0..usize::from(info.dlpi_phnum)).map(|at| {
        // SAFETY: the loader says how many there are.
        unsafe { &*info.dlpi_phdr.add(at) }
    });
    let dynamic = headers.into_iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
    let mut entry = base.wrapping_add(dynamic.p_vaddr) as *const Entry;
    let (mut strings, mut strings_bytes, mut symbols, mut hash) = (0, 0, 0, 0);
    // SAFETY: the section ends with DT_NULL.
    while unsafe { (*entry).tag } != DT_NULL {
        // SAFETY: as above.
        let Entry { tag, value } = unsafe { entry.read() };
        // The loader adds the base in place where the section is writable; the kernel's own object stays as it is.
        let address = if value < base { base.wrapping_add(value) } else { value };
        match tag {
            DT_STRTAB => strings = address,
            DT_STRSZ => strings_bytes = value,
            DT_SYMTAB => symbols = address,
            DT_GNU_HASH => hash = address,
            _ => {}
        }
        // SAFETY: before the end.
        entry = unsafe { entry.add(1) };
    }
    if strings == 0 || symbols == 0 || hash == 0 {
        return None;
    }
    // What is imported is not hashed and stands before what is.
    // SAFETY: the table has a head of four words.
    let [buckets, first_hashed, filter_words, _] = unsafe { *(hash as *const [u32; 4]) };
    let bucket = hash.wrapping_add(16).wrapping_add(u64::from(filter_words) * 8) as *const u32;
    // SAFETY: after the head comes a filter, then the buckets.
    let nothing_hashed = (0..buckets as usize).all(|at| unsafe { *bucket.add(at) } == 0);
    let imported = if nothing_hashed {
        // A program that exports nothing: the head is the same however many it imports. The strings follow the symbols.
        strings.saturating_sub(symbols) / size_of::<Elf64_Sym>() as u64
    } else {
        u64::from(first_hashed)
    };
    let symbols = symbols as *const Elf64_Sym;
    Some((1..imported as usize).any(|at| {
        // SAFETY: the table has at least as many symbols as stand before the hashed ones.
        let symbol = unsafe { &*symbols.add(at) };
        if u64::from(symbol.st_name) >= strings_bytes {
            return false;
        }
        // SAFETY: names lie in the object's strings and are NUL-terminated.
        let its_name = unsafe { CStr::from_ptr((strings as *const c_char).add(symbol.st_name as usize)) };
        symbol.st_shndx == 0 && its_name == name
    }))
}
