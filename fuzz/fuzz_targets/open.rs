//! A whole file: whatever opens can be checked and read to the end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cvc_fuzz::open(bytes);
});
