//! Memory mappings and memfds.
//!
//! # Safety
//!
//! `unsafe` is used for the system calls and to turn a fresh mapping into a slice. A mapping is handed out as `'static`
//! atomics and never unmapped inside the server.
#![allow(unsafe_code)]

use super::{Errno, syscall};
use core::ffi::CStr;
use core::sync::atomic::AtomicU64;

/// memfd_create(2) with close-on-exec and sealing allowed.
pub fn memfd(name: &CStr) -> Result<i32, Errno> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a NUL-terminated string.
    let fd =
        unsafe { syscall(libc::SYS_memfd_create, [name.as_ptr() as usize, flags as usize, 0, 0, 0, 0]) }?;
    Ok(fd as i32)
}

/// ftruncate(2).
pub fn truncate(fd: i32, bytes: usize) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_ftruncate, [fd as usize, bytes, 0, 0, 0, 0]) }.map(drop)
}

/// fchmod(2).
pub fn chmod(fd: i32, mode: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_fchmod, [fd as usize, mode as usize, 0, 0, 0, 0]) }.map(drop)
}

/// The seals of a segment: its size can't change any more, nor its seals. So no access inside it can raise SIGBUS.
pub const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Adds [`SEALS`] to a memfd.
pub fn seal(fd: i32) -> Result<(), Errno> {
    super::process::fcntl(fd, libc::F_ADD_SEALS, SEALS as usize).map(drop)
}

/// True when the memfd `fd` carries [`SEALS`].
pub fn is_sealed(fd: i32) -> bool {
    super::process::fcntl(fd, libc::F_GET_SEALS, 0).is_ok_and(|seals| seals as i32 & SEALS == SEALS)
}

/// The size of the file behind `fd`, by lseek(2) to its end.
pub fn file_size(fd: i32) -> Result<usize, Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_lseek, [fd as usize, 0, libc::SEEK_END as usize, 0, 0, 0]) }
}

fn map(bytes: usize, protection: i32, flags: i32, fd: i32) -> Result<usize, Errno> {
    // SAFETY: address 0 lets the kernel choose, so nothing that exists is replaced.
    unsafe {
        syscall(libc::SYS_mmap, [0, bytes, protection as usize, flags as usize, fd as isize as usize, 0])
    }
}

/// Maps the first `words` words of `fd`, shared, for reading and writing, for the rest of the process's life.
///
/// The file must be sealed against shrinking ([`is_sealed`]) and at least that long; else an access can raise SIGBUS.
pub fn map_shared(fd: i32, words: usize) -> Result<&'static [AtomicU64], Errno> {
    let address = map(words * 8, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd)?;
    // SAFETY: the mapping is page aligned, `words * 8` bytes long, never unmapped, and any bytes are valid atomics.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU64, words) })
}

/// Unmaps what [`map_shared`] gave.
///
/// # Safety
///
/// No reference into the mapping may be used afterwards.
pub unsafe fn unmap_shared(words: &'static [AtomicU64]) {
    // SAFETY: the caller gives up the mapping.
    let _ = unsafe { syscall(libc::SYS_munmap, [words.as_ptr() as usize, size_of_val(words), 0, 0, 0, 0]) };
}

/// Fresh zeroed private memory of at least `bytes` bytes, page aligned, for the rest of the process's life.
pub fn map_private(bytes: usize) -> Result<*mut u8, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    map(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1).map(|address| address as *mut u8)
}

/// A private page that reads as zeros in every child made by fork(2) or clone(2) without CLONE_VM (madvise(2),
/// MADV_WIPEONFORK, Linux 4.14).
pub fn map_wiped_on_fork() -> Result<&'static [AtomicU64], Errno> {
    const PAGE: usize = 4096;
    let address = map_private(PAGE)? as usize;
    // SAFETY: the page was mapped in the line above and belongs to nobody else.
    unsafe { syscall(libc::SYS_madvise, [address, PAGE, libc::MADV_WIPEONFORK as usize, 0, 0, 0]) }?;
    // SAFETY: as in `map_shared`.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU64, PAGE / 8) })
}
