//! Answers with several ranges: `multipart/byteranges` of RFC 9110, section 14.6.
//!
//! The length of a part is what its `Content-Range` says, so its bytes may look like anything. Whatever is not as it must be is
//! an error: these bytes decide what rows a caller gets, where files have no checksums.

use std::ops::Range;

use bytes::Bytes;

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which bytes of the file it has.
    pub(crate) range: Range<u64>,
    pub(crate) bytes: Bytes,
}

/// The boundary, if this is the type of an answer with several ranges.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let mut pieces = content_type.split(';').map(str::trim);
    if !pieces.next()?.eq_ignore_ascii_case("multipart/byteranges") {
        return None;
    }
    let boundary = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let boundary = boundary.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(boundary);
    (!boundary.is_empty()).then_some(boundary)
}

/// The bytes and the length of the file that a `Content-Range` names. `None` for a length that the server does not know.
pub(crate) fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1).filter(|end| *end > first)?;
    match total {
        "*" => Some((first..end, None)),
        total => number(total).filter(|total| end <= *total).map(|total| (first..end, Some(total))),
    }
}

/// Digits and nothing else: `parse` alone would take a sign.
pub(crate) fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// All parts of an answer, whose file has `file_len` bytes.
///
/// # Errors
/// What is not as it must be: [`Broken::Short`] if it only lacks its end.
pub(crate) fn parts(body: &Bytes, boundary: &str, file_len: u64) -> Result<Vec<Part>, Broken> {
    let wrong = |what: &str| Err(Broken::Wrong(what.to_owned()));
    let mut rest = Lines { body, boundary, at: 0 };
    let mut parts = Vec::new();
    // Some servers begin with an empty line.
    if body.starts_with(b"\r\n") {
        rest.at = 2;
    }
    loop {
        let line = rest.line()?;
        let Some(after) = line.strip_prefix("--").and_then(|line| line.strip_prefix(boundary)) else {
            return wrong("there is no boundary where one must be");
        };
        match after.trim_end() {
            "--" => return Ok(parts),
            "" => {}
            _ => return wrong("there is no boundary where one must be"),
        }
        let mut range = None;
        loop {
            let line = rest.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                return wrong("a part has a header without a colon");
            };
            if name.trim().eq_ignore_ascii_case("content-range") {
                let parsed = content_range(value);
                if range.is_some() || parsed.is_none() {
                    return wrong("a part has a Content-Range that is none, or two");
                }
                range = parsed;
            }
        }
        let Some((range, total)) = range else { return wrong("a part has no Content-Range") };
        if total.is_some_and(|total| total != file_len) || range.end > file_len {
            return wrong("a part is of a file of another length");
        }
        let bytes = rest.take(range.end - range.start)?;
        parts.push(Part { range, bytes });
        if !rest.line()?.is_empty() {
            return wrong("a part is longer than its Content-Range");
        }
    }
}

/// Why parts cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The body ends too early.
    Short,
    Wrong(String),
}

struct Lines<'b> {
    body: &'b Bytes,
    boundary: &'b str,
    at: usize,
}

impl<'b> Lines<'b> {
    /// The next line, without its end. The last boundary may lack one.
    fn line(&mut self) -> Result<&'b str, Broken> {
        let rest = &self.body[self.at..];
        let (line, len) = match rest.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => (&rest[..end], end + 2),
            None if self.is_last(rest) => (rest, rest.len()),
            None => return Err(Broken::Short),
        };
        self.at += len;
        std::str::from_utf8(line).map_err(|_| Broken::Wrong("a header is not text".into()))
    }

    fn is_last(&self, line: &[u8]) -> bool {
        let inner = line.strip_prefix(b"--").and_then(|line| line.strip_suffix(b"--"));
        inner == Some(self.boundary.as_bytes())
    }

    fn take(&mut self, len: u64) -> Result<Bytes, Broken> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.filter(|end| *end <= self.body.len()).ok_or(Broken::Short)?;
        let bytes = self.body.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Bytes {
        Bytes::from(text.replace('\n', "\r\n"))
    }

    const TWO: &str = "--XX\nContent-Type: a/b\nContent-Range: bytes 2-4/10\n\n--X\n\
                       --XX\ncontent-range: bytes 8-9/10\n\n\r\r\n--XX--\n";

    #[test]
    fn parts_are_found_by_their_lengths() {
        // The bytes of the first look like a boundary.
        for body in [body(TWO), body(&format!("\n{TWO}")), body(TWO.trim_end())] {
            let parts = parts(&body, "XX", 10).unwrap();
            assert_eq!(parts[0], Part { range: 2..5, bytes: Bytes::from_static(b"--X") });
            assert_eq!(parts[1], Part { range: 8..10, bytes: Bytes::from_static(b"\r\r") });
            assert_eq!(parts.len(), 2);
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_short_and_never_a_panic() {
        let whole = body(TWO.trim_end());
        for len in 0..whole.len() {
            assert_eq!(parts(&whole.slice(..len), "XX", 10).unwrap_err(), Broken::Short, "{len}");
        }
    }

    #[test]
    fn what_is_not_as_it_must_be_is_refused() {
        for (from, to) in [
            ("--XX\nContent-T", "--XY\nContent-T"),
            ("--XX\nContent-T", "XX\nContent-T"),
            ("bytes 2-4/10", "bytes 2-3/10"),
            ("bytes 2-4/10", "bytes 2-4/11"),
            ("bytes 2-4/10", "bytes 4-2/10"),
            ("bytes 2-4/10", "bytes +2-4/10"),
            ("bytes 2-4/10", "lines 2-4/10"),
            ("bytes 8-9/10", "bytes 9-10/10"),
            ("bytes 8-9/10", "bytes 0-18446744073709551615/*"),
            ("Content-Range: bytes 2-4/10\n", ""),
            ("Content-Range: bytes 2-4/10\n", "Content-Range: bytes 2-4/10\nContent-Range: bytes 2-4/10\n"),
            ("Content-Type: a/b", "Content-Type a/b"),
        ] {
            let broken = TWO.replacen(from, to, 1);
            assert_ne!(broken, TWO);
            assert!(matches!(parts(&body(&broken), "XX", 10), Err(Broken::Wrong(_))), "{to}");
        }
    }

    #[test]
    fn boundaries_are_found_in_the_type() {
        assert_eq!(boundary("multipart/byteranges; boundary=3d6b"), Some("3d6b"));
        assert_eq!(boundary("Multipart/ByteRanges;x=1; Boundary=\"a b\""), Some("a b"));
        for other in
            ["multipart/mixed; boundary=x", "multipart/byteranges", "multipart/byteranges; boundary="]
        {
            assert_eq!(boundary(other), None);
        }
    }
}
