//! The rates that `src/codecs` quotes: `cargo test -p cvc-codec --release --test rates -- --ignored --nocapture`.
//!
//! Not a benchmark of record: one thread, best of fifteen, no rivals. It decides between versions of a loop.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;
use std::time::Instant;

use cvc_codec::{CODECS, EncodedChunk, RowSlice};

/// Prints the gigabytes of f32 that `work` takes a second, given a million values.
fn rate(name: &str, mut work: impl FnMut()) {
    let best = (0..15)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:20} {:6.2} GB/s of f32", 4e6 / best / 1e9);
}

#[test]
#[ignore = "it measures"]
fn rates_of_every_encoder_and_of_the_simple_loop_of_int8() {
    let values: Vec<f32> = (0..1_000_000u32).map(|n| (n * 7919 % 10_007) as f32 / 10_007.0 - 0.5).collect();
    let rows = RowSlice::new(&values, 100).unwrap();
    let mut chunk = EncodedChunk::default();
    for codec in CODECS {
        rate(codec.name(), || codec.encode(black_box(rows), &mut chunk).unwrap());
    }
    // What the range alone costs, to be taken off the int8 codecs, and the codes as the simple loop makes them.
    rate("range alone", || {
        let range = black_box(&values).iter().fold((f32::MAX, f32::MIN), |(min, max), value| {
            (if *value < min { *value } else { min }, if *value > max { *value } else { max })
        });
        black_box(range);
    });
    let (min, scale) = black_box((-0.5f32, 1.0f32 / 255.0));
    let mut codes: Vec<u8> = Vec::with_capacity(values.len());
    rate("codes, simple loop", || {
        codes.clear();
        codes.extend(black_box(&values).iter().map(|value| {
            let rounded = f64::from(((value - min) / scale).round_ties_even());
            #[expect(clippy::cast_possible_truncation, reason = "as the codec's simple loop has it")]
            let integer = if rounded.abs() < 2_147_483_648.0 { rounded as i32 } else { 0 };
            integer.to_le_bytes()[0]
        }));
        black_box(&codes);
    });
}
