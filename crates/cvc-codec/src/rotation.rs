//! The rotation that the codecs `int4` and `bit1` apply to rows: fixed by the format, the same on every machine.
//!
//! It spreads what a row has over all of its values, which then are nearly normally distributed whatever they were before: so
//! one table of levels fits all rows, and an error in one value is no more than a little of all.
//!
//! Rows have d = m * 2^k values, with the largest k up to 8. The rotation R is two rounds of
//!
//! ```text
//! x[i] *= signs_r[i]
//! each of the m blocks of 2^k consecutive values = its Walsh-Hadamard transform, in natural order
//! ```
//!
//! and between them value b of block a goes to place b * m + a, so that the blocks of the second round have values of all blocks of
//! the first. Everything is divided by 2^k once, which makes R orthogonal: it keeps lengths, distances and products, and it is
//! linear, so a product with encoded rows can be taken where they are (`y` are levels, `s` a scale, `q` anything):
//!
//! ```text
//! decoded row = s * 2^k * R⁻¹(y) + centre          q · decoded row = s * 2^k * (R(q) · y) + q · centre
//! ```
//!
//! The signs come from splitmix64 (G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators",
//! OOPSLA 2014). Of an odd d only the signs are left: k is 0, and nothing is mixed. `docs/NUMERICS.md` is normative.

/// Values of a block at most: 2^8. An i16 holds the transform of that many levels, since none is beyond 127.
pub const MAX_BLOCK: usize = 1 << 8;

/// The rotation of rows of so many values.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotation {
    /// 2^k.
    block: usize,
    /// 1 or -1 for each value, before each round. Both are as long as a row.
    signs: [Box<[i16]>; 2],
}

impl core::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rotation").field("dim", &self.dim()).field("block", &self.block).finish()
    }
}

impl Rotation {
    /// The rotation of rows of `dim` values: two tables of signs, which is all that has to be worked out.
    pub fn new(dim: usize) -> Rotation {
        let block = match dim {
            0 => 1,
            dim => (1 << dim.trailing_zeros()).min(MAX_BLOCK),
        };
        Rotation { block, signs: [0, 1].map(|round| signs(dim, round)) }
    }

    /// Values of a row: m * 2^k.
    pub fn dim(&self) -> usize {
        self.signs[0].len()
    }

    /// Values of a block: 2^k, from 1 to [`MAX_BLOCK`].
    pub fn block(&self) -> usize {
        self.block
    }

    /// Blocks of a row: m.
    pub fn blocks(&self) -> usize {
        self.dim() / self.block
    }

    /// The signs that a round multiplies by, 1 or -1 for each value.
    ///
    /// # Panics
    /// `round` is neither 0 nor 1.
    pub fn signs(&self, round: usize) -> &[i16] {
        &self.signs[round]
    }

    /// Rotates a row: R, in f32, each butterfly rounded, those of neighbours first ([`hadamard`]). What overflows or is
    /// subnormal is so as f32 has it; before the division, values are up to 2^(2k) times as large.
    ///
    /// # Panics
    /// `row` does not have [`Rotation::dim`] values.
    pub fn rotate(&self, row: &mut [f32]) {
        assert_eq!(row.len(), self.dim(), "values of a row");
        row.iter_mut().zip(self.signs(0)).for_each(|(value, sign)| *value *= f32::from(*sign));
        row.chunks_exact_mut(self.block).for_each(hadamard);
        let before = row.to_vec();
        self.for_each_move(|from, to| row[to] = before[from] * f32::from(self.signs[1][to]));
        row.chunks_exact_mut(self.block).for_each(hadamard);
        let once = 1.0 / self.block as f32;
        row.iter_mut().for_each(|value| *value *= once);
    }

    /// What decoding does to the levels of a row: 2^k * R⁻¹, in integers. Of levels up to 127 the result is below 2^23, so that it
    /// is exact as i32 and as f32. `scratch` is written over.
    ///
    /// # Panics
    /// `levels` or `scratch` does not have [`Rotation::dim`] values.
    #[inline(always)]
    pub fn unrotate_levels(&self, levels: &mut [i32], scratch: &mut [i32]) {
        assert!(levels.len() == self.dim() && scratch.len() == self.dim(), "values of a row");
        levels.chunks_exact_mut(self.block).for_each(hadamard);
        self.for_each_move(|to, from| scratch[to] = levels[from] * i32::from(self.signs[1][from]));
        scratch.chunks_exact_mut(self.block).for_each(hadamard);
        for ((level, value), sign) in levels.iter_mut().zip(scratch).zip(&self.signs[0]) {
            *level = *value * i32::from(*sign);
        }
    }

    /// Calls `work` with the place of each value before and after the transposition between the rounds.
    #[inline(always)]
    pub fn for_each_move(&self, mut work: impl FnMut(usize, usize)) {
        let blocks = self.blocks();
        for block in 0..blocks {
            for at in 0..self.block {
                work(block * self.block + at, at * blocks + block);
            }
        }
    }
}

/// What a Walsh-Hadamard transform adds and subtracts: numbers, or vectors of them.
pub trait Butterfly: Copy {
    /// The sum and the difference, of each two numbers that correspond.
    fn butterfly(self, other: Self) -> (Self, Self);
}

impl Butterfly for f32 {
    #[inline(always)]
    fn butterfly(self, other: f32) -> (f32, f32) {
        (self + other, self - other)
    }
}

impl Butterfly for i32 {
    #[inline(always)]
    fn butterfly(self, other: i32) -> (i32, i32) {
        (self + other, self - other)
    }
}

impl Butterfly for i16 {
    #[inline(always)]
    fn butterfly(self, other: i16) -> (i16, i16) {
        (self + other, self - other)
    }
}

impl<T: Butterfly + Default, const N: usize> Butterfly for [T; N] {
    #[inline(always)]
    fn butterfly(self, other: Self) -> (Self, Self) {
        let (mut sums, mut differences) = (self, other);
        for lane in 0..N {
            (sums[lane], differences[lane]) = self[lane].butterfly(other[lane]);
        }
        (sums, differences)
    }
}

/// The Walsh-Hadamard transform in natural order, not normalised:
///
/// ```text
/// for h in 1, 2, 4, ... below the length { for each i with bit h clear { (x[i], x[i + h]) = (x[i] + x[i + h], x[i] - x[i + h]) } }
/// ```
///
/// Two of these steps are taken at a time, on four values in registers, which changes no result and halves what is loaded and
/// stored.
///
/// # Panics
/// The length is no power of two.
#[inline(always)]
pub fn hadamard<T: Butterfly>(values: &mut [T]) {
    let len = values.len();
    assert!(len.is_power_of_two(), "a block of 2^k values");
    let mut step = 1;
    if len.trailing_zeros() % 2 == 1 {
        let (pairs, _) = values.as_chunks_mut::<2>();
        for [a, b] in pairs {
            (*a, *b) = a.butterfly(*b);
        }
        step = 2;
    }
    while step < len {
        for four in values.chunks_exact_mut(4 * step) {
            let (ab, cd) = four.split_at_mut(2 * step);
            let ((a, b), (c, d)) = (ab.split_at_mut(step), cd.split_at_mut(step));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let ((p, q), (r, s)) = (a.butterfly(*b), c.butterfly(*d));
                ((*a, *c), (*b, *d)) = (p.butterfly(r), q.butterfly(s));
            }
        }
        step *= 4;
    }
}

/// The signs of a round: bit i % 64 of word i / 64, where a 1 is a plus.
fn signs(dim: usize, round: u64) -> Box<[i16]> {
    let mut signs = Vec::with_capacity(dim);
    for word in (round << 32).. {
        let left = dim - signs.len();
        if left == 0 {
            break;
        }
        let bits = splitmix64(word);
        signs.extend((0..left.min(64)).map(|bit| if bits >> bit & 1 == 1 { 1 } else { -1 }));
    }
    signs.into()
}

/// Number `n` of the generator splitmix64 that begins with 0.
fn splitmix64(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMS: [usize; 14] = [0, 1, 2, 3, 4, 6, 100, 128, 255, 256, 384, 512, 768, 1536];

    /// The matrix of the rotation before the division, by its definition: entry by entry, no butterflies.
    fn matrix(dim: usize) -> Vec<Vec<i32>> {
        let rotation = Rotation::new(dim);
        let (p, m) = (rotation.block(), rotation.blocks());
        let entry = |row: usize, column: usize| {
            // From column through block a at place b, to place b * m + a.
            let mut sum = 0;
            for place in 0..p {
                let middle = row / p * p + place;
                let (a, b) = (middle % m, middle / m);
                if column / p == a {
                    let first = (b & (column % p)).count_ones() + ((row % p) & place).count_ones();
                    let sign = if first.is_multiple_of(2) { 1 } else { -1 };
                    sum += sign * i32::from(rotation.signs(1)[middle] * rotation.signs(0)[column]);
                }
            }
            sum
        };
        (0..dim).map(|row| (0..dim).map(|column| entry(row, column)).collect()).collect()
    }

    #[test]
    fn splitmix64_is_the_published_one() {
        // The first numbers of the generator with seed 0, as its authors' C code gives them.
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(1), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(splitmix64(2), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn signs_are_bits_of_their_words() {
        let rotation = Rotation::new(200);
        for (round, signs) in [(0, rotation.signs(0)), (1, rotation.signs(1))] {
            for (at, sign) in (0u64..).zip(signs) {
                let bit = splitmix64((round << 32) + at / 64) >> (at % 64) & 1;
                assert_eq!(*sign, if bit == 1 { 1 } else { -1 });
            }
        }
    }

    #[test]
    fn blocks_are_the_largest_powers_of_two_up_to_256() {
        for (dim, block) in [(0, 1), (1, 1), (3, 1), (6, 2), (100, 4), (384, 128), (768, 256), (4096, 256)] {
            assert_eq!(Rotation::new(dim).block(), block, "{dim}");
        }
    }

    #[test]
    fn it_is_the_matrix_of_its_definition_and_back() {
        for dim in [1, 2, 3, 4, 6, 12, 20, 64, 96] {
            let rotation = Rotation::new(dim);
            let matrix = matrix(dim);
            let square = i32::try_from(rotation.block() * rotation.block()).unwrap();
            for column in 0..dim {
                // Rows and columns of the matrix are orthogonal.
                for other in 0..dim {
                    let product: i32 = matrix.iter().map(|row| row[column] * row[other]).sum();
                    assert_eq!(product, if column == other { square } else { 0 });
                }
                let mut row: Vec<f32> = (0..dim).map(|at| if at == column { 1.0 } else { 0.0 }).collect();
                rotation.rotate(&mut row);
                for (value, of) in row.iter().zip(&matrix) {
                    assert_eq!(*value * rotation.block() as f32, of[column] as f32, "dim {dim}");
                }
                let mut levels: Vec<i32> = (0..dim).map(|at| i32::from(at == column)).collect();
                rotation.unrotate_levels(&mut levels, &mut vec![0; dim]);
                assert_eq!(levels, matrix[column], "dim {dim}");
            }
        }
    }

    #[test]
    fn lengths_are_kept_and_levels_come_back() {
        for dim in DIMS {
            let rotation = Rotation::new(dim);
            let levels: Vec<i32> = (0..dim).map(|at| i32::try_from(at * 37 % 255).unwrap() - 127).collect();
            let mut rotated = levels.clone();
            rotation.unrotate_levels(&mut rotated, &mut vec![0; dim]);
            assert!(rotated.iter().all(|value| value.abs() <= 127 << 16));
            // Integers of that size are exact in f32, and so is what becomes of them on the way back.
            let mut row: Vec<f32> = rotated.iter().map(|value| *value as f32).collect();
            rotation.rotate(&mut row);
            let back: Vec<f32> = levels.iter().map(|level| *level as f32 * rotation.block() as f32).collect();
            let error = row.iter().zip(&back).map(|(value, back)| (value - back).abs()).fold(0.0, f32::max);
            assert!(error <= 0.01, "dim {dim}: {error}");
        }
    }

    #[test]
    fn steps_taken_together_are_the_plain_loop() {
        for log in 0..=8 {
            let mut values: Vec<f32> = (0..1 << log).map(|at: u16| (f32::from(at) * 0.7).sin()).collect();
            let mut plain = values.clone();
            let mut step = 1;
            while step < plain.len() {
                for at in 0..plain.len() {
                    if at & step == 0 {
                        let (a, b) = (plain[at], plain[at + step]);
                        (plain[at], plain[at + step]) = (a + b, a - b);
                    }
                }
                step *= 2;
            }
            hadamard(&mut values);
            assert_eq!(values, plain);
        }
    }
}
