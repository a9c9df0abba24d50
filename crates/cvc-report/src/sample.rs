//! Rows drawn by a seed: the same ones on every machine.
//!
//! SplitMix64 makes the numbers; Floyd's algorithm draws `count` different rows of `rows` with `count` numbers.

use std::collections::BTreeSet;

/// `count` different rows below `rows`, in ascending order; all of them if there are no more.
pub(crate) fn rows(rows: u64, count: u64, seed: u64) -> Vec<u64> {
    if count >= rows {
        return (0..rows).collect();
    }
    let mut state = seed;
    let mut chosen = BTreeSet::new();
    for top in rows - count..rows {
        let row = below(&mut state, top + 1);
        chosen.insert(if chosen.contains(&row) { top } else { row });
    }
    chosen.into_iter().collect()
}

/// A number below `end`: the upper half of a product, whose bias is at most `end` in 2^64.
fn below(state: &mut u64, end: u64) -> u64 {
    let product = u128::from(next(state)) * u128::from(end);
    u64::try_from(product >> 64).expect("the upper half of 128 bits")
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first numbers of seed 1234567, as published with the algorithm.
        let mut state = 1_234_567;
        assert_eq!(next(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(next(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn rows_are_different_ascending_and_decided_by_the_seed() {
        let drawn = rows(1000, 50, 7);
        assert_eq!(drawn.len(), 50);
        assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.iter().all(|row| *row < 1000));
        assert_eq!(drawn, rows(1000, 50, 7));
        assert_ne!(drawn, rows(1000, 50, 8));
    }

    #[test]
    fn every_row_is_drawn_about_as_often() {
        let mut times = [0; 10];
        for seed in 0..2000 {
            rows(10, 3, seed).into_iter().for_each(|row| times[usize::try_from(row).unwrap()] += 1);
        }
        assert!(times.iter().all(|times| (500..700).contains(times)), "{times:?}");
    }

    #[test]
    fn no_more_rows_are_drawn_than_there_are() {
        assert_eq!(rows(3, 5, 0), [0, 1, 2]);
        assert_eq!(rows(0, 5, 0), []);
        assert_eq!(rows(u64::MAX, 0, 0), []);
    }
}
