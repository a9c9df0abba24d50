//! `crc32c`: the checksums of blocks that lie side by side, several at once.
//!
//! ```text
//! for each block { for each byte { crc = table[(crc ^ byte) & 255] ^ crc >> 8 } }
//! ```
//!
//! 1. The processor has an instruction that takes 8 bytes of a block at a time. The next one of the same block waits 3 cycles
//!    for it, one of another block does not: three blocks at once are 8 bytes a cycle, and nothing has to be joined in the end.
//! 2. Carry-less multiplication *folds* instead: 16 bytes, seen as a polynomial, are multiplied by the power of x that moves them
//!    behind the next ones, modulo the polynomial of the checksum, and added to those. What is left in the end has the same
//!    remainder as the whole and is given to the instruction above. With 256 bits at a time that is 8 bytes a cycle as well.
//! 3. The two use different parts of the processor. So of six blocks two are folded while four go through the instruction. Two
//!    parts of three would be even, were folding not several operations that take turns with all others.
//! 4. What is left of a run, and a block that is wanted alone, is folded with four sums that do not wait for each other.
//!
//! Bytes from the L2 cache, GB/s of one core (AMD EPYC of the Zen 3 class, November 2026; a scratch program with as many blocks as
//! go without a rest; `rates_of_checksums` in `tests/rates.rs` measures what is here, and `crc-fast`):
//!
//! | | blocks of 4,608 bytes | of 6,144 |
//! |---|---|---|
//! | `crc-fast`, block by block | 14.3 | 15.1 |
//! | the instruction alone, three blocks at once | 24.8 | 25.0 |
//! | folding alone | 24.9 | 25.1 |
//! | two folded, four by the instruction | 33.5 | 34.5 |
//! | three and three | 32.0 | 32.9 |
//! | three and four | 32.7 | 33.5 |
//! | three and five | 33.8 | 34.6 |
//! | three and three, the one kind before the other in a step | 31.1 | 31.9 |
//!
//! With AVX-512 `crc-fast` folds 512 bits at a time, 46 GB/s of blocks of 4 KiB on Zen 5, and is left to it.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "a call of code that needs more than the target's features, behind a token"
    )
)]

use cvc_codec::checksum;

/// Goes on with the checksum of each block, as [`cvc_codec::checksum::append_each`] does, with the best that this processor has.
///
/// # Panics
/// `bytes` are not as many pieces of one length as there are checksums.
pub fn append_each(crcs: &mut [u32], bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(clmul) = x86::Clmul256::detect()
        && !std::arch::is_x86_feature_detected!("avx512vl")
    {
        return x86::append_each(clmul, crcs, bytes);
    }
    checksum::append_each(crcs, bytes);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use core::array::from_fn;

    use cvc_codec::checksum;

    use crate::ops::x86::load_256;

    /// Proof that this processor multiplies 256 bits without carry, and has the instruction for this checksum.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Clmul256(
        /// Invariant: made by `detect` only, after all of the features were found.
        (),
    );

    impl Clmul256 {
        /// Asks the processor.
        pub(super) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("sse4.2")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("vpclmulqdq");
            found.then_some(Clmul256(()))
        }
    }

    pub(super) fn append_each(_: Clmul256, crcs: &mut [u32], bytes: &[u8]) {
        // SAFETY: the token proves all of the features.
        unsafe { each(crcs, bytes) }
    }

    /// Blocks that are folded, of as many at once.
    const FOLDED: usize = 2;
    /// Blocks that go through the instruction meanwhile.
    const CHAINED: usize = 4;
    const AT_ONCE: usize = FOLDED + CHAINED;

    /// What a step takes of each of the blocks at once, in vectors.
    const STEP: usize = 2;
    /// What it takes of a block alone.
    const STEP_ALONE: usize = 4;
    /// Bytes of a vector.
    const VECTOR: usize = 32;

    #[target_feature(enable = "avx2,sse4.2,pclmulqdq,vpclmulqdq")]
    fn each(crcs: &mut [u32], bytes: &[u8]) {
        let mut blocks = checksum::pieces(crcs.len(), bytes);
        let (at_once, alone) = crcs.as_chunks_mut::<AT_ONCE>();
        for crcs in at_once {
            let blocks: [&[u8]; AT_ONCE] = from_fn(|_| blocks.next().unwrap_or_default());
            let states = crcs.map(|crc| !crc);
            *crcs = if blocks[0].len() < 2 * STEP * VECTOR {
                chained(states, blocks).map(|state| !state)
            } else {
                both(states, blocks).map(|state| !state)
            };
        }
        for (crc, block) in alone.iter_mut().zip(blocks) {
            *crc = !if block.len() < 2 * STEP_ALONE * VECTOR {
                chained([!*crc], [block])[0]
            } else {
                folded(!*crc, block)
            };
        }
    }

    /// Takes blocks of one length through the instruction, in turns.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn chained<const N: usize>(states: [u32; N], blocks: [&[u8]; N]) -> [u32; N] {
        let count = blocks[0].len() / 8;
        let words = blocks.map(|block| &block.as_chunks::<8>().0[..count]);
        let mut states = states.map(u64::from);
        for at in 0..count {
            for (state, words) in states.iter_mut().zip(words) {
                *state = _mm_crc32_u64(*state, u64::from_le_bytes(words[at]));
            }
        }
        from_fn(|i| {
            let rest = &blocks[i][8 * count..];
            rest.iter().fold(low(states[i]), |state, byte| _mm_crc32_u8(state, *byte))
        })
    }

    /// Folds the first two of six blocks of one length while the others go through the instruction. Each has a step's bytes at least.
    #[inline]
    #[target_feature(enable = "avx2,sse4.2,pclmulqdq,vpclmulqdq")]
    fn both(states: [u32; AT_ONCE], blocks: [&[u8]; AT_ONCE]) -> [u32; AT_ONCE] {
        const LEN: usize = STEP * VECTOR;
        let count = blocks[0].len() / LEN;
        let steps = blocks.map(|block| &block.as_chunks::<LEN>().0[..count]);
        let factors = factors::<STEP>();
        let mut sums: [[__m256i; STEP]; FOLDED] = from_fn(|i| first(states[i], &steps[i][0]));
        let mut chains: [u64; CHAINED] = from_fn(|i| u64::from(states[FOLDED + i]));
        for at in 0..count {
            // An operation of one kind after some of the other, since that is how the processor can do them at once.
            for word in 0..LEN / 8 {
                let (block, vector) = (word / 2 / STEP, word / 2 % STEP);
                if word % 2 == 0 && at > 0 {
                    let next = load_256(&steps[block][at].as_chunks::<VECTOR>().0[vector]);
                    sums[block][vector] = fold(sums[block][vector], factors, next);
                }
                for (chain, steps) in chains.iter_mut().zip(&steps[FOLDED..]) {
                    *chain = _mm_crc32_u64(*chain, u64::from_le_bytes(steps[at].as_chunks::<8>().0[word]));
                }
            }
        }
        let of_sums = sums.map(|sums| remainder(sums));
        let states = from_fn(|i| if i < FOLDED { of_sums[i] } else { low(chains[i - FOLDED]) });
        chained(states, blocks.map(|block| &block[count * LEN..]))
    }

    /// Folds one block, which has a step's bytes at least.
    #[inline]
    #[target_feature(enable = "avx2,sse4.2,pclmulqdq,vpclmulqdq")]
    fn folded(state: u32, block: &[u8]) -> u32 {
        let (steps, rest) = block.as_chunks::<{ STEP_ALONE * VECTOR }>();
        let factors = factors::<STEP_ALONE>();
        let mut sums: [__m256i; STEP_ALONE] = first(state, &steps[0]);
        for step in &steps[1..] {
            for (sum, next) in sums.iter_mut().zip(step.as_chunks().0) {
                *sum = fold(*sum, factors, load_256(next));
            }
        }
        chained([remainder(sums)], [rest])[0]
    }

    /// The vectors of the first step, the state added to its first bytes: so it is as if they came after what it is of.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn first<const STEP: usize>(state: u32, bytes: &[u8]) -> [__m256i; STEP] {
        let vectors = bytes.as_chunks::<VECTOR>().0;
        let mut sums = from_fn(|i| load_256(&vectors[i]));
        let state = _mm256_zextsi128_si256(_mm_cvtsi32_si128(state.cast_signed()));
        sums[0] = _mm256_xor_si256(sums[0], state);
        sums
    }

    /// Moves each 16 bytes of `sum` behind what a step takes, and adds what comes next.
    #[inline]
    #[target_feature(enable = "avx2,vpclmulqdq")]
    fn fold(sum: __m256i, factors: __m256i, next: __m256i) -> __m256i {
        let low = _mm256_clmulepi64_epi128::<0x00>(sum, factors);
        let high = _mm256_clmulepi64_epi128::<0x11>(sum, factors);
        _mm256_xor_si256(_mm256_xor_si256(low, high), next)
    }

    /// What the instruction makes of bytes of which this is left after folding.
    #[inline]
    #[target_feature(enable = "avx2,sse4.2")]
    fn remainder<const STEP: usize>(sums: [__m256i; STEP]) -> u32 {
        let mut state = 0;
        for sum in sums {
            for half in [_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum)] {
                state = _mm_crc32_u64(state, _mm_extract_epi64::<0>(half).cast_unsigned());
                state = _mm_crc32_u64(state, _mm_extract_epi64::<1>(half).cast_unsigned());
            }
        }
        low(state)
    }

    /// What the two halves of 16 bytes are multiplied by to move them by `STEP` vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn factors<const STEP: usize>() -> __m256i {
        // The first half has 64 bits more to go, as the second lies behind it.
        let (low, high) = const { (factor(8 * VECTOR * STEP + 64), factor(8 * VECTOR * STEP)) };
        _mm256_set_epi64x(high, low, high, low)
    }

    /// x to the power of `distance - 1` modulo the polynomial. The bits of a checksum stand in reverse, x to the power of 0 at the
    /// top; the product of two such numbers of 64 bits has 127, and its top bit, which is then empty, is a power that is missing.
    const fn factor(distance: usize) -> i64 {
        const POLYNOMIAL: u32 = 0x82f6_3b78;
        let mut power = 1 << 31;
        let mut exponent = 0;
        while exponent < distance - 1 {
            power = power >> 1 ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            exponent += 1;
        }
        ((power as u64) << 32).cast_signed()
    }

    /// The state that the instruction returns in 64 bits.
    #[inline]
    fn low(state: u64) -> u32 {
        u32::try_from(state).expect("the upper half is zero")
    }
}

#[cfg(test)]
mod tests {
    use cvc_codec::checksum::{self, AppendEach, crc32c};

    /// Every way that this processor has, whether it is the best or not.
    fn ways() -> Vec<(&'static str, AppendEach)> {
        let mut ways: Vec<(&str, AppendEach)> = vec![("best", super::append_each)];
        #[cfg(target_arch = "x86_64")]
        if super::x86::Clmul256::detect().is_some() {
            ways.push(("clmul256", |crcs, bytes| {
                super::x86::append_each(super::x86::Clmul256::detect().expect("found before"), crcs, bytes);
            }));
        }
        ways
    }

    /// Bytes without a pattern, the same every time.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        (0..len).map(|_| next()).collect()
    }

    /// Compares one call with the plain one. Every block has been begun, each with other bytes.
    fn compare(count: usize, bytes: &[u8]) {
        let begun: Vec<u32> = (0..count).map(|i| crc32c(&noise(i))).collect();
        let mut expected = begun.clone();
        checksum::append_each(&mut expected, bytes);
        for (way, append_each) in ways() {
            let mut crcs = begun.clone();
            append_each(&mut crcs, bytes);
            assert_eq!(crcs, expected, "{way}, {count} blocks of {} bytes", bytes.len() / count);
        }
    }

    #[test]
    fn blocks_of_every_length_are_those_of_the_plain_loop() {
        let bytes = noise(14 * 4800);
        let lens = (0..700).chain([1023, 1024, 1536, 4095, 4096, 4104, 4608, 4799]);
        for len in lens {
            for count in [1, 2, 6, 7, 13] {
                compare(count, &bytes[..count * len]);
            }
        }
    }

    #[test]
    fn blocks_anywhere_in_memory_are_those_of_the_plain_loop() {
        let bytes = noise(40_000);
        for start in 0..70 {
            for (count, len) in [(1, 511), (1, 4096), (6, 128), (6, 777), (8, 4608)] {
                compare(count, &bytes[start..start + count * len]);
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        for (count, len) in [(1, 1000), (6, 200)] {
            let mut bytes = noise(count * len);
            for at in 0..bytes.len() {
                bytes[at] ^= 0x10;
                compare(count, &bytes);
            }
        }
    }

    #[test]
    fn known_values() {
        for (way, append_each) in ways() {
            let mut crcs = [0; 3];
            append_each(&mut crcs, b"123412341234");
            append_each(&mut crcs, b"567895678956789");
            assert_eq!(crcs, [0xe306_9283; 3], "{way}");
            append_each(&mut [], &[]);
        }
    }

    #[test]
    #[should_panic(expected = "bytes of 7 pieces of one length")]
    fn pieces_that_differ_in_length_are_refused() {
        super::append_each(&mut [0; 7], &[0; 700 * 7 + 1]);
    }
}
