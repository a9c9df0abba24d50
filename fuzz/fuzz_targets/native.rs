//! A native file under checksums that are always right: whatever it says, it is an error or values.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cvc_fuzz::native(bytes);
});
