//! Numbers, strings and lists as bytes. Reading never allocates more than there are bytes.

use cvc::format::checksum::Crc32c;

/// CRC-32C of these bytes one after another.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut sum = Crc32c::default();
    parts.iter().for_each(|part| sum.update(part));
    sum.finish()
}

pub(crate) fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_str(out: &mut Vec<u8>, value: &str) {
    put_u32(out, u32::try_from(value.len()).expect("names and JSON are shorter than 4 GiB"));
    out.extend_from_slice(value.as_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_u64(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy)]
pub(crate) struct Wire<'a>(pub(crate) &'a [u8]);

/// What is said of bytes that are not what they should be.
pub(crate) type Problem = String;

impl<'a> Wire<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Problem> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Problem> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.take(len)?).map_err(|_| "a string is not UTF-8".into())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Problem> {
        let len = usize::try_from(self.u64()?).map_err(|_| "it ends too early")?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_taken_and_a_length_that_lies_is_refused() {
        let mut out = Vec::new();
        put_u8(&mut out, 7);
        put_str(&mut out, "né");
        put_bytes(&mut out, &[1, 2]);
        put_u64(&mut out, u64::MAX);
        let mut wire = Wire(&out);
        assert_eq!(
            (wire.u8(), wire.str(), wire.bytes(), wire.u64()),
            (Ok(7), Ok("né"), Ok(&[1u8, 2][..]), Ok(u64::MAX))
        );
        assert!(wire.is_empty() && wire.u8().is_err());
        assert!(Wire(&[255; 12]).bytes().is_err() && Wire(&[255; 12]).str().is_err());
        // The check value of CRC-32C.
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }
}
