//! Reading what is left of damaged arrays.

use std::ops::Range;

use cvc_codec::ops::PayloadError;
use cvc_codec::strings::Strings;
use cvc_codec::{BlockRun, ChunkId, DType, DecodeError, DeviceBuffer as _, Element, HostBuffer, SourceError};
use cvc_cpu::CpuBackend;
use cvc_format::native::MAX_BLOCK_LEN;

use crate::error::Error;
use crate::io::ReadAt;
use crate::reader::Array;
use crate::select::{Rows, merged};

/// What becomes of rows whose bytes are damaged. Unless somebody asks for one of these, reading fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// They are left out: fewer rows come back than were asked for.
    Skip,
    /// They come back as NaN, or as zeros where there is no NaN; strings as empty ones.
    Fill,
}

/// Rows that could be read, and which could not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Salvaged<T> {
    /// The values, or strings, in the order asked for.
    pub values: T,
    /// The rows of the array that are lost, of those asked for: sorted, without overlap.
    pub lost: Vec<Range<u64>>,
}

impl Array<'_> {
    /// As [`Array::read`], but damaged rows are skipped or filled rather than an error.
    ///
    /// # Errors
    /// As [`Array::read`], but for damage that checksums find.
    pub fn salvage<T: Element>(
        &self,
        rows: impl Into<Rows>,
        on_damage: OnDamage,
    ) -> Result<Salvaged<Vec<T>>, Error> {
        self.check_dtype(T::DTYPE)?;
        let ranges = rows.into().resolve(self.rows())?;
        let lost = self.lost_rows(&ranges)?;
        let kept = without(&ranges, &lost);
        if on_damage == OnDamage::Skip || lost.is_empty() {
            return Ok(Salvaged { values: self.read(kept)?, lost });
        }
        self.check_filled_values(&lost, T::DTYPE)?;
        let mut values = vec![T::zeroed(); self.value_count(&ranges, T::DTYPE)?];
        self.fill(&ranges, &lost, &mut HostBuffer::new(&mut values))?;
        Ok(Salvaged { values, lost })
    }

    /// As [`Array::salvage`] with [`OnDamage::Fill`], into memory of the caller, whose dtype it has. Returns the rows that are
    /// lost.
    ///
    /// # Errors
    /// As [`Array::salvage`], and if the buffer is not exactly as long as the rows need.
    pub fn salvage_into(
        &self,
        rows: impl Into<Rows>,
        dst: &mut HostBuffer<'_>,
    ) -> Result<Vec<Range<u64>>, Error> {
        let out = dst.dtype();
        self.check_dtype(out)?;
        let ranges = rows.into().resolve(self.rows())?;
        let lost = self.lost_rows(&ranges)?;
        self.check_filled_values(&lost, out)?;
        let expected = (self.value_count(&ranges, out)? * out.size()) as u64;
        DecodeError::check_destination(dst, out, expected)
            .map_err(|error| Error::Decode { array: self.index().name.clone(), error })?;
        self.fill(&ranges, &lost, dst)?;
        Ok(lost)
    }

    /// Those of `rows` whose bytes are whole, in the order asked for.
    ///
    /// # Errors
    /// As [`Array::lost_rows`].
    pub fn whole_rows(&self, rows: impl Into<Rows>) -> Result<Rows, Error> {
        let ranges = rows.into().resolve(self.rows())?;
        let lost = self.lost_rows(&ranges)?;
        Ok(Rows::from(without(&ranges, &lost)))
    }

    fn check_filled_values(&self, lost: &[Range<u64>], out: DType) -> Result<(), Error> {
        self.check_filled(lost, u64::from(self.dim()) * out.size() as u64, |chunk| {
            self.plan(chunk, out).map(drop)
        })
    }

    /// Reads what is not lost of `ranges`, and fills the rest. The buffer is as long as all of them need.
    fn fill(
        &self,
        ranges: &[Range<u64>],
        lost: &[Range<u64>],
        dst: &mut HostBuffer<'_>,
    ) -> Result<(), Error> {
        let out = dst.dtype();
        // All bits set is a quiet NaN in each of the float formats.
        let filler = if out.is_float() { 0xff } else { 0 };
        dst.bytes_mut().fill(filler);
        let row_len = self.dim() as usize * out.size();
        let mut at = 0;
        for range in ranges {
            for kept in without(std::slice::from_ref(range), lost) {
                let start = at + length(range.start..kept.start) * row_len;
                let bytes = &mut dst.bytes_mut()[start..start + length(kept.clone()) * row_len];
                self.decode(&CpuBackend::new(), kept, out, &mut HostBuffer::from_bytes(out, bytes)?)?;
            }
            at += length(range.clone()) * row_len;
        }
        Ok(())
    }

    /// As [`Array::read_strings`], but damaged rows are skipped or filled rather than an error.
    ///
    /// # Errors
    /// As [`Array::read_strings`], but for damage that checksums find.
    pub fn salvage_strings(
        &self,
        rows: impl Into<Rows>,
        on_damage: OnDamage,
    ) -> Result<Salvaged<Strings>, Error> {
        self.check_strings_dtype()?;
        let ranges = rows.into().resolve(self.rows())?;
        let lost = self.lost_rows(&ranges)?;
        if on_damage == OnDamage::Skip || lost.is_empty() {
            return Ok(Salvaged { values: self.read_strings(without(&ranges, &lost))?, lost });
        }
        self.check_filled(&lost, size_of::<usize>() as u64, |chunk| {
            let (_, parts) = self.stored(chunk)?;
            let most = |len: &u32| u64::from(*len).saturating_mul(MOST_EXPANDED).min(MAX_BLOCK_LEN);
            let earned =
                parts.lanes().iter().flat_map(|lane| &lane.lens).map(most).fold(0, u64::saturating_add);
            // Each string has an end of four bytes.
            if u64::from(parts.rows()) * 4 <= earned {
                return Ok(());
            }
            let error =
                PayloadError::Strings { problem: format!("{} rows, too many for its bytes", parts.rows()) };
            Err(Error::Decode {
                array: self.index().name.clone(),
                error: DecodeError::Payload { chunk, error },
            })
        })?;
        let mut values = Strings::default();
        for range in ranges {
            let mut row = range.start;
            for kept in without(std::slice::from_ref(&range), &lost) {
                (row..kept.start).for_each(|_| values.push(""));
                self.read_strings(kept.clone())?.iter().for_each(|text| values.push(text));
                row = kept.end;
            }
            (row..range.end).for_each(|_| values.push(""));
        }
        Ok(Salvaged { values, lost })
    }

    /// Which of these rows are lost, because the head of their chunk, their block or (in CVCF files) their chunk is
    /// damaged: sorted, without overlap. Everything that reading them would look at is checked, even if the file was
    /// opened without checksums.
    ///
    /// # Errors
    /// Rows that do not exist; the source fails.
    pub fn lost_rows(&self, ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>, Error> {
        let ranges = Rows::from(Vec::from(ranges)).resolve(self.rows())?;
        let mut lost = Vec::new();
        let mut bytes = Vec::new();
        for (chunk, rows) in self.split(ranges) {
            let first_row = self.entry(chunk).rows.start;
            let parts = match self.stored(chunk) {
                Ok((_, parts)) => parts,
                Err(Error::Head { .. }) => {
                    lost.push(first_row + u64::from(rows.start)..first_row + u64::from(rows.end));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ahead = self.ahead([(chunk, rows.clone())]);
            let source = ahead.as_ref().map_or(self.reader().source(), |ahead| ahead as &dyn ReadAt);
            for block in parts.blocks_of(rows.clone()) {
                let run = BlockRun { chunk, parts, blocks: block..block + 1 };
                match self.check_run(&run, source, &mut bytes) {
                    Ok(()) => {}
                    Err(SourceError::Block { .. } | SourceError::Checksum { .. }) => {
                        let of_block = run.rows();
                        let (start, end) = (of_block.start.max(rows.start), of_block.end.min(rows.end));
                        lost.push(first_row + u64::from(start)..first_row + u64::from(end));
                    }
                    Err(error) => {
                        let error = DecodeError::Source { chunk, error };
                        return Err(Error::Decode { array: self.index().name.clone(), error });
                    }
                }
            }
        }
        Ok(union(lost))
    }

    /// Refuses to fill more rows of `row_len` bytes than a chunk of so many bytes is sure to hold, unless `earned` finds that
    /// it can.
    fn check_filled(
        &self,
        lost: &[Range<u64>],
        row_len: u64,
        earned: impl Fn(ChunkId) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (chunk, rows) in self.split(Vec::from(lost)) {
            let Range { start, end } = self.entry(chunk).bytes;
            // Halves become f32.
            let sure = (end - start).saturating_mul(2 * MOST_EXPANDED);
            if (rows.len() as u64).saturating_mul(row_len) > sure {
                self.stored(chunk)?;
                earned(chunk)?;
            }
        }
        Ok(())
    }
}

/// What streams unpack to at most, times their bytes.
const MOST_EXPANDED: u64 = 1 << 15;

/// Sorted ranges, with those that touch made one.
pub(crate) fn union(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    merged(ranges, 0)
}

/// `ranges`, in their order, without the rows of `lost`, which are sorted and do not overlap.
pub(crate) fn without(ranges: &[Range<u64>], lost: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut kept = Vec::new();
    for range in ranges {
        let mut start = range.start;
        let first = lost.partition_point(|lost| lost.end <= range.start);
        for lost in lost[first..].iter().take_while(|lost| lost.start < range.end) {
            if start < lost.start {
                kept.push(start..lost.start);
            }
            start = lost.end;
        }
        if start < range.end {
            kept.push(start..range.end);
        }
    }
    kept
}

fn length(range: Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("its values were counted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_out_of_ranges_in_any_order() {
        let lost = union(vec![7..9, 2..4, 4..5, 20..30]);
        assert_eq!(lost, [2..5, 7..9, 20..30]);
        assert_eq!(without(&[0..10], &lost), [0..2, 5..7, 9..10]);
        assert_eq!(without(&[8..25, 3..6, 2..5, 40..40], &lost), [9..20, 5..6]);
        assert_eq!(without(&[0..3], &[]), [0..3]);
    }
}
