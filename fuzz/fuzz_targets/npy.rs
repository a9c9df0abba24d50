//! An input for packing, of any kind: whatever opens can be read, in parts and whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cvc_fuzz::npy(bytes);
});
