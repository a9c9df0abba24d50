//! A payload of `dict_planes`: an error, or values that every backend agrees on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cvc_fuzz::payload(bytes);
});
