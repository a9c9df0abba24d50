//! The loops of encoding, with the instructions of each level.
//!
//! Rounding to halves is what decoding does as well ([`crate::ops::narrow`]). The other loops are those of
//! [`cvc_codec::loops`], compiled once more for AVX2 and for AVX-512: Rust neither fuses nor reorders their arithmetic, so the
//! bits are the same. Products of two f32 are added to sums in f64 in one step, which is the same as in two, since they are exact.
//!
//! `cargo bench -p cvc-cpu --bench kernels encode` measures each of them at each level.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls of code that needs more than the target's features, behind tokens")
)]

use cvc_codec::loss::{self, Lanes};
use cvc_codec::quantise::{self, Quantiser};
use cvc_codec::{Loops, loops};
use half::{bf16, f16};

use crate::fetch::fetch;
use crate::level::Level;
use crate::ops::narrow::{narrow_bf16, narrow_f16};
use crate::ops::stores::Ordinary;

/// The loops of encoding with the instructions of a level.
#[derive(Clone, Copy, Debug)]
pub struct CpuLoops {
    level: Level,
}

impl CpuLoops {
    /// Bytes of f32 values that should go through one loop after another at a time. They stay in the L2 cache with what becomes of
    /// them, and with those that come next.
    pub const RUN_LEN: usize = 128 << 10;

    /// With the best instructions of this processor.
    pub fn new() -> Self {
        CpuLoops::with_level(Level::best())
    }

    /// With these instructions, for tests and measurements.
    pub fn with_level(level: Level) -> Self {
        CpuLoops { level }
    }
}

impl Default for CpuLoops {
    fn default() -> Self {
        CpuLoops::new()
    }
}

/// A function of [`Loops`] that compiles `$loop` for each level, and takes `$plain` where there is none.
macro_rules! compiled {
    ($name:ident = $loop:path, $arguments:tt $(-> $result:ty)?) => {
        compiled!($name = $loop, or $loop, $arguments $(-> $result)?);
    };
    ($name:ident = $loop:path, or $plain:path, ($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name(&self, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                $loop($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                $loop($($argument),*)
            }
            match self.level {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves AVX2 and FMA.
                Level::Avx2(_) => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves AVX-512 F, BW and VL, and FMA.
                Level::Avx512(_) => unsafe { avx512($($argument),*) },
                // NEON is part of every aarch64 target.
                _ => $plain($($argument),*),
            }
        }
    };
}

impl Loops for CpuLoops {
    fn narrow_f16(&self, values: &[f32], halves: &mut [f16]) {
        narrow_f16(self.level, Ordinary, values, halves);
    }

    fn narrow_bf16(&self, values: &[f32], halves: &mut [bf16]) {
        narrow_bf16(self.level, Ordinary, values, halves);
    }

    compiled!(finite_range = loops::finite_range, (values: &[f32]) -> Option<(f32, f32)>);

    compiled!(codes = loops::codes, (values: &[f32], min: f32, divisor: f32, codes: &mut [u8]));

    compiled!(
        codes_of_dims = loops::codes_of_dims,
        (values: &[f32], mins: &[f32], divisors: &[f32], codes: &mut [u8])
    );

    compiled!(add_to_sums = loops::add_to_sums, (row: &[f32], sums: &mut [f64]));

    compiled!(
        quantise = quantise::quantise,
        (
            quantiser: Quantiser<'_>,
            rows: &[f32],
            scratch: &mut quantise::Scratch,
            codes: &mut [u8],
            scales: &mut [f32]
        ) -> Option<usize>
    );

    compiled!(
        loss = loss_fused,
        or loss_plain,
        (values: [&[[f32; loss::LANES]]; 2], decoded: [&[[f32; loss::LANES]]; 2]) -> [Lanes; 2]
    );
}

/// [`loss::lanes`] with products that are added in one step.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn loss_fused(values: [&[[f32; loss::LANES]]; 2], decoded: [&[[f32; loss::LANES]]; 2]) -> [Lanes; 2] {
    loss::lanes_shown(values, decoded, f64::mul_add, fetch_next_run)
}

/// [`loss::lanes`] as it is.
#[inline(always)]
fn loss_plain(values: [&[[f32; loss::LANES]]; 2], decoded: [&[[f32; loss::LANES]]; 2]) -> [Lanes; 2] {
    loss::lanes_shown(values, decoded, |x, y, sum| sum + x * y, fetch_next_run)
}

/// Fetches the values that lie [`CpuLoops::RUN_LEN`] behind these, which the loop of losses does since it waits for memory the
/// least. Those of the next run are in the L2 cache when the loops come to them that would wait.
#[inline(always)]
fn fetch_next_run<const LINE: usize>(line: &[[f32; loss::LANES]; LINE]) {
    fetch(line, CpuLoops::RUN_LEN);
}

#[cfg(test)]
mod tests {
    use cvc_codec::Plain;

    use super::*;

    /// Values of every magnitude, with some that are no numbers: bits without a pattern, the same every time.
    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 32).expect("its upper half")
        };
        (0..len).map(|_| f32::from_bits(next())).collect()
    }

    /// The sums of a row as text, in which any NaN is like any other.
    fn shown(lanes: [Lanes; 2]) -> String {
        format!("{lanes:?}")
    }

    #[test]
    fn losses_are_those_of_the_plain_loop_at_every_level() {
        let (bits, others) = (noise(4000, 1), noise(4000, 2));
        let numbers = |values: &[f32]| -> Vec<f32> {
            // Neighbouring magnitudes, where a product that rounds otherwise would show.
            values.iter().map(|value| f32::from_bits(value.to_bits() & 0x807f_ffff | 0x3f00_0000)).collect()
        };
        let sets = [(numbers(&bits), numbers(&others)), (bits, others)];
        for level in Level::available() {
            let loops = CpuLoops::with_level(level);
            for (values, decoded) in &sets {
                for (first, second) in [(0, 0), (1, 0), (3, 3), (4, 4), (192, 192), (5, 9), (190, 0), (0, 7)]
                {
                    for start in [0, 1, 500] {
                        let rows = |values| {
                            let steps = <[f32]>::as_chunks(values).0;
                            [&steps[start..start + first], &steps[start + first..start + first + second]]
                        };
                        let expected = Plain.loss(rows(values), rows(decoded));
                        let found = loops.loss(rows(values), rows(decoded));
                        assert_eq!(shown(found), shown(expected), "{level}, {first} and {second} steps");
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_and_codes_are_those_of_the_plain_loops_at_every_level() {
        let all = noise(3000, 3);
        let finite: Vec<f32> = all.iter().map(|value| value % 1000.0).filter(|v| v.is_finite()).collect();
        for level in Level::available() {
            let loops = CpuLoops::with_level(level);
            for len in (0..70).chain([768, 2001]) {
                let values = &finite[..len];
                assert_eq!(loops.finite_range(values), Plain.finite_range(values), "{level}, {len} values");
                let (mut codes, mut expected) = (vec![0; len], vec![0; len]);
                let (mins, divisors) = (vec![-1000.0; len], vec![2000.0 / 255.0; len]);
                loops.codes(values, -1000.0, 2000.0 / 255.0, &mut codes);
                Plain.codes(values, -1000.0, 2000.0 / 255.0, &mut expected);
                assert_eq!(codes, expected, "{level}, {len} values");
                loops.codes_of_dims(values, &mins, &divisors, &mut codes);
                assert_eq!(codes, expected, "{level}, {len} values by dim");
                for at in 0..len {
                    for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut values = values.to_vec();
                        values[at] = odd;
                        assert_eq!(loops.finite_range(&values), None, "{level}, {odd} at {at} of {len}");
                    }
                }
            }
        }
    }
}
