//! How many go by until one is chosen: drawn at once, as many as a coin that falls with probability p takes.

/// So far ahead is drawn at a time: 2⁷.
pub(super) const DRAWN_MAX: u32 = 1 << POWERS;
const POWERS: usize = 7;

/// As many as go by for a `uniform` number in 0..1 where each is chosen with probability `p`; [`DRAWN_MAX`]: so many, and then
/// it has to be drawn again, which a coin does not notice: it has no memory.
///
/// At least k go by with probability (1-p)^k. So it is the largest k for which the number is below that, found bit by bit.
pub(super) fn go_by(p: f64, uniform: f64) -> u32 {
    // (1-p) to the powers of 1, 2, 4, …
    let mut power = 1.0 - p;
    let powers = [(); POWERS].map(|()| {
        let this = power;
        power *= power;
        this
    });
    if uniform < power {
        return DRAWN_MAX;
    }
    let (mut passed, mut all) = (0, 1.0);
    for (bit, power) in powers.iter().enumerate().rev() {
        let more = all * power;
        if uniform < more {
            (passed, all) = (passed | 1 << bit, more);
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn it_is_as_many_as_a_coin_takes() {
        for p in [1.0, 0.9, 0.5, 0.1, 0.03, 0.004, 1e-9] {
            // Evenly spread numbers: shares come out as the probabilities they are.
            const N: u32 = 1 << 20;
            let mut counts = [0u32; DRAWN_MAX as usize + 1];
            for n in 0..N {
                counts[go_by(p, (f64::from(n) + 0.5) / f64::from(N)) as usize] += 1;
            }
            for (k, &count) in counts.iter().enumerate() {
                let at_least = (1.0 - p).powi(k as i32);
                let expected = if k == DRAWN_MAX as usize { at_least } else { at_least * p };
                let seen = f64::from(count) / f64::from(N);
                assert!((seen - expected).abs() < 3.0 / f64::from(N), "p {p}, {k}: {seen}, not {expected}");
            }
        }
    }

    #[test]
    fn drawing_on_is_no_different() {
        let p = 0.01;
        let mut random = 1u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 11) as f64 / (1u64 << 53) as f64
        };
        let drawn: Vec<u32> = (0..200_000)
            .map(|_| {
                let mut all = 0;
                loop {
                    let more = go_by(p, uniform());
                    all += more;
                    if more < DRAWN_MAX {
                        return all;
                    }
                }
            })
            .collect();
        let mean = drawn.iter().map(|&n| f64::from(n)).sum::<f64>() / drawn.len() as f64;
        assert!((mean - 99.0).abs() < 1.0, "{mean} go by");
        let longest = f64::from(*drawn.iter().max().unwrap());
        assert!(longest > 700.0, "also many more than are drawn at once: {longest}");
    }
}
