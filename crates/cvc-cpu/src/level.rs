//! Which instructions this processor has, as proof.
//!
//! A token such as [`Avx2`] can only be made by its `detect`, which asks the processor. So whoever holds a
//! [`Level`] may run the code of that level, and says just that where `unsafe` calls it.
//!
//! Work comes in runs of a hundred kilobytes, so an ordinary `match` on the level costs nothing.

use core::fmt;

/// A set of instructions to decode with. Each level gives the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// What every processor of the target has, as the compiler vectorises plain loops.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// NEON, with its conversions between half and single.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon(Neon),
}

impl Level {
    /// The names of all levels there are, whatever this processor or this build has.
    pub const NAMES: [&'static str; 4] = ["portable", "avx2", "avx512", "neon"];

    /// The most capable level of this processor.
    pub fn best() -> Self {
        *Level::available().last().expect("there is always Level::Portable")
    }

    /// Every level that this processor has, the most capable last.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::detect().map(Level::Avx2));
            levels.extend(Avx512::detect().map(Level::Avx512));
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        levels.extend(Neon::detect().map(Level::Neon));
        levels
    }

    /// Whether it has AVX-512.
    pub(crate) fn has_avx512(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => true,
            _ => false,
        }
    }

    /// The name, one of [`Level::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => "neon",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Proof that this processor has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(
    /// Invariant: made by `detect` only, after all of the features were found.
    (),
);

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Asks the processor.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Avx2(()))
    }
}

/// Proof that this processor has AVX-512 F, BW and VL, and AVX2, FMA and F16C, which they include.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(
    /// Invariant: made by `detect` only, after all of the features were found.
    (),
);

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// Asks the processor.
    pub fn detect() -> Option<Self> {
        let found = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        found.then_some(Avx512(()))
    }
}

/// Proof that this processor has NEON.
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(
    /// Invariant: made by `detect` only, after the feature was found.
    (),
);

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
impl Neon {
    /// Asks the processor.
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_list_in_order() {
        let names: Vec<&str> = Level::available().into_iter().map(Level::name).collect();
        let mut expected = Level::NAMES.to_vec();
        expected.retain(|name| names.contains(name));
        assert_eq!(names, expected);
        assert_eq!(names[0], "portable");
        assert_eq!(Level::best().name(), *names.last().unwrap());
    }
}
