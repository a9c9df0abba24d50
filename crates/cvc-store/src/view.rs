//! An array as memory that can be written to, and one commit of what was changed at the end.

use std::fmt;
use std::ops::Range;

use cvc::{AlignedBytes, ArrayRows, DType, Element, RowSlice};
#[cfg(feature = "rayon")]
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::batch::Batch;
use crate::error::Error;
use crate::read::{each_piece, index};
use crate::snapshot::StoredArray;
use crate::store::Store;

/// Bytes that are compared at a time.
const WINDOW_LEN: u64 = 1 << 20;

/// A copy of an array in memory. [`WritableView::commit`] makes one commit of the rows that were changed; dropped, it leaves the
/// store as it was. Made by [`Store::writable`].
pub struct WritableView {
    batch: Batch,
    array: StoredArray,
    bytes: AlignedBytes,
}

impl fmt::Debug for WritableView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritableView").field("array", &self.array).finish_non_exhaustive()
    }
}

impl Store {
    /// An array as memory that can be written to. Only arrays that keep every bit of a value have one.
    ///
    /// # Errors
    /// There is no such array, it holds strings or its codec loses something, or the store was opened for reading.
    pub fn writable(&self, name: &str) -> Result<WritableView, Error> {
        let batch = self.batch()?;
        let array = batch.snapshot().array(name)?;
        let dtype = array.dtype()?;
        check_lossless(&array)?;
        let row_len = array.dim() as usize * dtype.size();
        let mut bytes = AlignedBytes::new();
        let out = bytes.resize(index(array.rows()) * row_len);
        array.read_bytes(.., out)?;
        Ok(WritableView { batch, array, bytes })
    }
}

impl WritableView {
    /// The array as it was when the view was made.
    pub fn array(&self) -> &StoredArray {
        &self.array
    }

    /// All rows, in native order.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.bytes_mut()
    }

    /// All rows as values.
    ///
    /// # Errors
    /// They are of another dtype.
    pub fn values_mut<T: Element>(&mut self) -> Result<&mut [T], Error> {
        let dtype = self.array.dtype()?;
        if T::DTYPE != dtype {
            return Err(Error::argument("dtype", T::DTYPE, format!("the array has {dtype} values")));
        }
        Ok(bytemuck::cast_slice_mut(self.bytes.bytes_mut()))
    }

    /// Makes one commit of the rows that are not as they were. Returns its number, or that of the last commit if none is.
    ///
    /// # Errors
    /// Somebody else made a commit since, or the disk refuses; nothing has changed then.
    pub fn commit(self) -> Result<u64, Error> {
        let WritableView { mut batch, array, bytes } = self;
        batch.replace_changed(array.name(), bytes.bytes())?;
        batch.commit()
    }
}

impl Batch {
    /// Replaces the rows that are not as they are in `bytes`: all rows of an array in native order, aligned for its dtype.
    /// Returns how many those are. Bits are compared, so a NaN that stays the same is no change.
    ///
    /// # Errors
    /// As [`Store::writable`], bytes that are not as many as the array has, or the disk refuses; the batch is as it was then.
    pub fn replace_changed(&mut self, name: &str, bytes: &[u8]) -> Result<usize, Error> {
        let array = self.snapshot().array(name)?;
        check_lossless(&array)?;
        let (dtype, dim) = (array.dtype()?, array.dim() as usize);
        let fail = |error: cvc::codec::RowsError| Error::rows(name)(error.into());
        let all = RowSlice::from_bytes(dtype, index(array.rows()), dim, bytes).map_err(fail)?;
        let step = (WINDOW_LEN / (dim * dtype.size()).max(1) as u64).max(1);
        let windows: Vec<Range<u64>> = array.batches(step).collect();
        #[cfg(feature = "rayon")]
        let windows = windows.into_par_iter();
        #[cfg(not(feature = "rayon"))]
        let windows = windows.into_iter();
        let changed = windows.map(|rows| changed_rows(&array, dtype, rows, bytes));
        let changed: Vec<i64> = changed.collect::<Result<Vec<_>, _>>()?.concat();
        if !changed.is_empty() {
            let rows: Vec<u64> = changed.iter().map(|row| row.cast_unsigned()).collect();
            let picked = crate::edit::Picked::new(&ArrayRows::from(all), &rows);
            self.replace(name, &changed, picked.rows())?;
        }
        Ok(changed.len())
    }
}

/// Which of `rows` are not as they are in `bytes`, all rows of the array.
fn changed_rows(
    array: &StoredArray,
    dtype: DType,
    rows: Range<u64>,
    bytes: &[u8],
) -> Result<Vec<i64>, Error> {
    let row_len = array.dim() as usize * dtype.size();
    let compare = |changed: &mut Vec<i64>, first: u64, old: &[u8]| {
        let new = &bytes[index(first) * row_len..][..old.len()];
        if old != new {
            let pairs = old.chunks_exact(row_len).zip(new.chunks_exact(row_len));
            let differ = (first..).zip(pairs).filter(|(_, (old, new))| old != new);
            changed.extend(differ.map(|(row, _)| i64::try_from(row).expect("rows are below 2^48")));
        }
    };
    // Where they lie; a copy of each window costs as much again as comparing it.
    let mut changed = Vec::new();
    let in_place = each_piece(array.name(), &array.array, dtype, rows.clone(), |first, old| {
        compare(&mut changed, first, old)
    })?;
    if !in_place {
        let mut old = AlignedBytes::new();
        let old = old.resize(index(rows.end - rows.start) * row_len);
        array.read_bytes(rows.clone(), old)?;
        changed.clear();
        compare(&mut changed, rows.start, old);
    }
    Ok(changed)
}

/// Refuses an array of which writing back what was read would change more than what was written to.
fn check_lossless(array: &StoredArray) -> Result<(), Error> {
    if array.spec().is_lossless() {
        return Ok(());
    }
    let problem = format!("codec {} loses something; replace rows instead", array.spec().codec());
    Err(Error::argument("array", format!("{:?}", array.name()), problem))
}
