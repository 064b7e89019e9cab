//! Where a zero is among sixteen bytes, without a loop: by the processor's own comparison of many bytes at once.

#[cfg_attr(target_arch = "x86_64", path = "zeros_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "zeros_aarch64.rs")]
mod arch;
pub(crate) use arch::last_zero;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_zero_is_found_wherever_it_is_and_whatever_is_around_it() {
        for other in [1, 0x7f, 0x80, 0x81, 0xff] {
            assert_eq!(last_zero(&[other; 16]), None);
            for last in 0..16 {
                for first in 0..=last {
                    let mut bytes = [other; 16];
                    (bytes[first], bytes[last]) = (0, 0);
                    assert_eq!(last_zero(&bytes), Some(last), "{bytes:?}");
                }
            }
        }
    }
}
