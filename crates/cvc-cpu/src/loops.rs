//! The loops of encoding, with the instructions of each level.
//!
//! Rounding to halves is what decoding does as well ([`crate::ops::narrow`]). The other loops are those of
//! [`cvc_codec::loops`], compiled once more for AVX2 and for AVX-512: Rust neither fuses nor reorders their arithmetic, so the
//! bits are the same.
//!
//! `cargo bench -p cvc-cpu --bench kernels encode` measures each of them at each level.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls of code that needs more than the target's features, behind tokens; a hint to fetch"
    )
)]

use cvc_codec::loss::{self, Lanes};
use cvc_codec::quantise::{self, Quantiser};
use cvc_codec::{Loops, loops};
use half::{bf16, f16};

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

/// A function of [`Loops`] that compiles `$plain` for each level.
macro_rules! compiled {
    ($name:ident = $plain:path, ($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name(&self, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                $plain($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                $plain($($argument),*)
            }
            match self.level {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves AVX2.
                Level::Avx2(_) => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves AVX-512 F, BW and VL.
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
        loss = loss_and_fetch,
        (values: &[[f32; loss::LANES]], decoded: &[[f32; loss::LANES]]) -> Lanes
    );
}

/// [`loss::lanes`], which fetches the values that lie [`CpuLoops::RUN_LEN`] behind these: it is the loop that waits for memory
/// the least. Those of the next run are in the L2 cache when the loops come to them that would wait.
#[inline(always)]
fn loss_and_fetch(values: &[[f32; loss::LANES]], decoded: &[[f32; loss::LANES]]) -> Lanes {
    loss::lanes_shown(values, decoded, |line| {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let ahead = line.as_ptr().cast::<i8>().wrapping_add(CpuLoops::RUN_LEN);
            // SAFETY: a hint, which reads nothing and faults at no address; it is part of every x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead) };
        }
        // Stable Rust has no such hint for other processors.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    })
}
