//! The names of the files of a store, which are kept for good.

pub(crate) const LOCK: &str = "lock";
pub(crate) const TEMPORARY: &str = ".tmp";

/// The largest number of a commit, a journal or a segment. No store comes near it, and what counts on from there is never too large.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

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

/// Whether this is something of ours that was never finished.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(TEMPORARY).is_some_and(|name| journal_number(name).is_some())
}

fn number(digits: &str) -> Option<u64> {
    let canonical =
        digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if canonical { u64::from_str_radix(digits, 16).ok().filter(|number| *number <= MAX_NUMBER) } else { None }
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
        assert!(is_temporary("journal-000000000000001f.tmp") && !is_temporary("mine.tmp"));
    }
}
