//! The last zero of sixteen bytes on aarch64, by plain arithmetic.

/// The position of the last zero; `None`: there is none.
#[inline(always)]
pub(crate) fn last_zero(bytes: &[u8; 16]) -> Option<usize> {
    let all = u128::from_le_bytes(*bytes);
    // The upper bit of each byte that is zero, and of no other.
    const LOWER: u128 = u128::MAX / 255 * 0x7f;
    let zeros = !(((all & LOWER) + LOWER) | all | LOWER);
    (zeros != 0).then(|| 15 - zeros.leading_zeros() as usize / 8)
}
