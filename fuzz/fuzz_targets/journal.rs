//! The journal of a store, as it is and under checksums that are always right: whatever it says, it is an error or a store.
#![no_main]

#[path = "../src/journal.rs"]
pub mod journal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    journal::journal(bytes);
});
