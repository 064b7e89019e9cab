//! The last zero of sixteen bytes on x86-64.
//!
//! # Safety
//!
//! `unsafe` is used for instructions of SSE2, which all processors of this architecture have.
#![allow(unsafe_code)]

use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_setzero_si128};

/// The position of the last zero; `None`: there is none.
#[inline(always)]
pub(crate) fn last_zero(bytes: &[u8; 16]) -> Option<usize> {
    let all = u128::from_le_bytes(*bytes);
    // SAFETY: values in registers, and instructions that are there. A bit for each byte.
    let zeros = unsafe {
        let all = _mm_set_epi64x((all >> 64) as i64, all as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128()))
    };
    zeros.checked_ilog2().map(|at| at as usize)
}
