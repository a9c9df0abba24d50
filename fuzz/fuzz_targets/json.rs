//! JSON text: whatever parses is written and read back the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cvc_fuzz::json(bytes);
});
