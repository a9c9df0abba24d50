//! The names of the files of a store, which are kept for good.

pub(crate) const LOCK: &str = "lock";
pub(crate) const TEMPORARY: &str = ".tmp";
pub(crate) const CUT: &str = ".cut";
/// Numbers of files and commits are below, so that there is always a next one.
pub(crate) const NUMBERS: u64 = 1 << 63;

pub(crate) fn journal(number: u64) -> String {
    format!("journal-{number:016x}")
}

pub(crate) fn segment(number: u64) -> String {
    format!("seg-{number:016x}.cvc")
}

pub(crate) fn journal_number(name: &str) -> Option<u64> {
    number(name.strip_prefix("journal-")?)
}

pub(crate) fn segment_number(name: &str) -> Option<u64> {
    number(name.strip_prefix("seg-")?.strip_suffix(".cvc")?)
}

/// The name under which a journal is kept that had something behind its last record.
pub(crate) fn cut(number: u64) -> String {
    format!("{}{CUT}", journal(number))
}

pub(crate) fn cut_number(name: &str) -> Option<u64> {
    journal_number(name.strip_suffix(CUT)?)
}

/// Whether this is something of ours that was never finished.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(TEMPORARY).is_some_and(|name| journal_number(name).is_some())
}

fn number(digits: &str) -> Option<u64> {
    let canonical =
        digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let number = if canonical { u64::from_str_radix(digits, 16).ok() } else { None };
    number.filter(|number| *number < NUMBERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_in_one_way() {
        assert_eq!(journal(0x1f), "journal-000000000000001f");
        assert_eq!(segment(1), "seg-0000000000000001.cvc");
        assert_eq!(journal_number("journal-000000000000001f"), Some(31));
        assert_eq!(segment_number("seg-0000000000000001.cvc"), Some(1));
        for name in [
            "journal-1f",
            "journal-000000000000001F",
            "journal-+00000000000001f",
            "journal-000000000000001f.tmp",
            "journal-ffffffffffffffff",
        ] {
            assert_eq!(journal_number(name), None, "{name}");
        }
        assert_eq!(cut_number(&cut(31)), Some(31));
        assert!(is_temporary("journal-000000000000001f.tmp") && !is_temporary("mine.tmp"));
    }
}
