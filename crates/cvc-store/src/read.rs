//! Reading rows: from runs of positions to bytes in the caller's memory.
//!
//! A row in a segment of codec `raw` that is in memory, and one in the journal, is copied from where it lies. Everything else is
//! decoded, as much as possible at a time: rows of one segment that follow each other at the same distance in the result are
//! one piece, even if some rows between them have moved to the journal since. Those are put on top at the end.

use std::ops::Range;

use cvc::codec::ops::copy::copy;
use cvc::{Array, CpuBackend, DType, HostBuffer, RawRows, Reader, Rows, Strings};

use crate::error::Error;
use crate::runs::{Run, Source};
use crate::state::ArrayState;

/// Bytes from which on decoding (on all cores, checked and copied while hot) beats copying from a map.
const DECODE_LEN: u64 = 256 << 10;

/// Stale rows between two pieces that are read rather than read around.
const GAP_ROWS: u64 = 4096;

/// Rows of one source and where they go.
struct Piece {
    source: Source,
    row: u64,
    len: u64,
    dst: u64,
}

/// Rows being read.
struct Gather<'a> {
    name: &'a str,
    array: &'a ArrayState,
    dtype: DType,
    row_len: usize,
    out: &'a mut [u8],
    /// Rows that were asked for so far.
    dst: u64,
    run: Option<(Range<u64>, &'a Run, Option<RawRows<'a>>)>,
    pieces: Vec<Piece>,
    patches: Vec<Piece>,
    /// Rows that were found and not copied yet.
    found: Vec<(&'a [u8], usize)>,
}

/// Rows that are found before any is copied. To find one touches nothing that is far away, to copy one waits for memory: together
/// they wait at the same time.
const FOUND: usize = 64;

/// Fills `out` with the rows of the positions that `each` hands over, in their order. They are rows of `dtype`, native order.
pub(crate) fn read_positions<'a>(
    name: &'a str,
    array: &'a ArrayState,
    dtype: DType,
    out: &'a mut [u8],
    each: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<(), Error>,
) -> Result<(), Error> {
    let row_len = array.spec.dim() as usize * dtype.size();
    let mut gather = Gather {
        name,
        array,
        dtype,
        row_len,
        out,
        dst: 0,
        run: None,
        pieces: Vec::new(),
        patches: Vec::new(),
        found: Vec::new(),
    };
    let mut result = Ok(());
    each(&mut |start, len| {
        if result.is_ok() {
            result = gather.positions(start, len);
        }
    })?;
    result?;
    gather.finish()
}

/// Fills `out` with single rows by number, if all of them lie where they can be copied from. The same as
/// [`read_positions`] in a loop that does nothing else; says whether it was done.
pub(crate) fn read_single_rows(
    array: &ArrayState,
    dtype: DType,
    rows: &[i64],
    out: &mut [u8],
) -> Result<bool, Error> {
    let (count, row_len) = (array.rows(), array.spec.dim() as usize * dtype.size());
    let plain = array.dead_count() == 0 && array.spec.codec == "raw" && array.spec.dtype() == Some(dtype);
    if !plain || row_len == 0 {
        return Ok(false);
    }
    let position_of = |row: i64| {
        let row = if row < 0 { count.wrapping_sub(row.unsigned_abs()) } else { row.cast_unsigned() };
        (row < count).then(|| array.base + row)
    };
    let mut known: Option<(Range<u64>, u64, RawRows<'_>)> = None;
    let mut places = [0; FOUND];
    let mut runs = 0;
    for (rows, out) in rows.chunks(FOUND).zip(out.chunks_mut(FOUND * row_len)) {
        let (mut rows, mut out) = (rows, out);
        while let Some(first) = rows.first() {
            let Some(position) = position_of(*first) else { return Ok(false) };
            if !known.as_ref().is_some_and(|(range, ..)| range.contains(&position)) {
                // Where every row has a run of its own, nothing is gained.
                runs += 1;
                let Some((start, run)) = array.runs.of(position).filter(|_| runs <= FOUND) else {
                    return Ok(false);
                };
                let (Source::Segment(segment), None) = (&run.source, &run.holes) else { return Ok(false) };
                let Ok(Some(raw)) = segment.array()?.raw_rows() else { return Ok(false) };
                known = Some((start..start + run.len, run.row, raw));
            }
            let (range, first, raw) = known.as_mut().expect("just found");
            // As many as are in the same run.
            let mut len = 0;
            for (row, place) in rows.iter().zip(&mut places) {
                match position_of(*row) {
                    Some(position) if range.contains(&position) => *place = *first + (position - range.start),
                    _ => break,
                }
                len += 1;
            }
            let (into, behind) = out.split_at_mut(len * row_len);
            // What is damaged is said elsewhere.
            if raw.copy_rows(&places[..len], into).is_err() {
                return Ok(false);
            }
            (rows, out) = (&rows[len..], behind);
        }
    }
    Ok(true)
}

/// Hands over rows where they lie: the number of a first row, and the bytes of it and of those behind it, in native order. Only
/// if all of `rows` lie so; says whether they do, and if not, what was handed over means nothing.
pub(crate) fn each_piece(
    name: &str,
    array: &ArrayState,
    dtype: DType,
    mut rows: Range<u64>,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<bool, Error> {
    let row_len = array.spec.dim() as usize * dtype.size();
    let plain = array.dead_count() == 0 && array.spec.codec == "raw" && array.spec.dtype() == Some(dtype);
    if !plain || row_len == 0 || cfg!(target_endian = "big") {
        return Ok(false);
    }
    while rows.start < rows.end {
        let position = array.base + rows.start;
        let (start, run) = array.runs.of(position).ok_or_else(|| no_place(position))?;
        let count = (start + run.len - position).min(rows.end - rows.start);
        let first = run.row_of(start, position);
        match &run.source {
            Source::Segment(segment) => {
                let raw = segment.array()?.raw_rows().map_err(Error::rows(name))?;
                let Some(mut raw) = raw else { return Ok(false) };
                let mut done = 0;
                while done < count {
                    let piece = raw.piece(first + done..first + count).map_err(Error::rows(name))?;
                    each(rows.start + done, piece);
                    done += (piece.len() / row_len) as u64;
                }
            }
            Source::Values(values) => {
                each(rows.start, &values[index(first) * row_len..index(first + count) * row_len]);
            }
            Source::File(_) | Source::Strings(_) => return Ok(false),
        }
        rows.start += count;
    }
    Ok(true)
}

impl<'a> Gather<'a> {
    fn positions(&mut self, start: u64, len: u64) -> Result<(), Error> {
        if self.row_len == 0 {
            self.dst += len;
            return Ok(());
        }
        let (mut position, end) = (start, start + len);
        while position < end {
            if !self.run.as_ref().is_some_and(|(range, ..)| range.contains(&position)) {
                self.run = Some(self.run_of(position)?);
            }
            let (range, run, raw) = self.run.as_mut().expect("just found");
            let stop = end.min(range.end);
            let (row, count) = (run.row_of(range.start, position), stop - position);
            let dst = self.dst;
            self.dst += count;
            position = stop;
            let bytes = count * self.row_len as u64;
            let into = index(dst) * self.row_len..(index(dst) + index(count)) * self.row_len;
            let quiet = self.pieces.last().is_none_or(|piece| piece.dst + piece.len + GAP_ROWS < dst);
            match (&run.source, raw) {
                (Source::Segment(_), Some(raw)) if bytes < DECODE_LEN && quiet => {
                    let (mut rows, mut at) = (row..row + count, into.start);
                    while rows.start < rows.end {
                        let piece = raw.piece(rows.clone()).map_err(Error::rows(self.name))?;
                        self.found.push((piece, at));
                        at += piece.len();
                        rows.start = if piece.len() == self.row_len {
                            rows.start + 1
                        } else {
                            rows.start + (piece.len() / self.row_len) as u64
                        };
                    }
                    if self.found.len() >= FOUND {
                        self.copy_found();
                    }
                }
                (Source::Values(values), _) if quiet => self.copy_values(&values.clone(), row, into),
                (Source::Values(_), _) => {
                    self.patches.push(Piece { source: run.source.clone(), row, len: count, dst });
                }
                _ => {
                    let source = run.source.clone();
                    self.piece(Piece { source, row, len: count, dst });
                }
            }
        }
        Ok(())
    }

    /// The run that holds `position`, and its rows where they lie if they can be had so.
    fn run_of(&self, position: u64) -> Result<(Range<u64>, &'a Run, Option<RawRows<'a>>), Error> {
        let array: &'a ArrayState = self.array;
        let (start, run) = array.runs.of(position).ok_or_else(|| no_place(position))?;
        let raw = match &run.source {
            Source::Segment(segment)
                if &*array.spec.codec == "raw" && self.array.spec.dtype() == Some(self.dtype) =>
            {
                segment.array()?.raw_rows().map_err(Error::rows(self.name))?
            }
            _ => None,
        };
        Ok((start..start + run.len, run, raw))
    }

    fn piece(&mut self, piece: Piece) {
        if let Some(last) = self.pieces.last_mut()
            && matches!(piece.source, Source::Segment(_))
            && last.source.is(&piece.source)
            && piece.row >= last.row + last.len
            && piece.row - last.row == piece.dst - last.dst
            && piece.dst - (last.dst + last.len) <= GAP_ROWS
        {
            last.len = piece.dst + piece.len - last.dst;
            return;
        }
        self.pieces.push(piece);
    }

    fn copy_values(&mut self, values: &[u8], row: u64, into: Range<usize>) {
        let from = index(row) * self.row_len;
        let out = &mut self.out[into];
        copy(&values[from..from + out.len()], self.dtype.component_size(), out);
    }

    fn copy_found(&mut self) {
        for (bytes, at) in self.found.drain(..) {
            self.out[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        self.copy_found();
        let pieces = std::mem::take(&mut self.pieces);
        for together in pieces.chunk_by(|a, b| a.source.is(&b.source)) {
            self.decode(together)?;
        }
        for Piece { source, row, len, dst } in std::mem::take(&mut self.patches) {
            let Source::Values(values) = &source else { continue };
            self.copy_values(values, row, index(dst) * self.row_len..index(dst + len) * self.row_len);
        }
        Ok(())
    }

    /// Decodes pieces of one source.
    fn decode(&mut self, pieces: &[Piece]) -> Result<(), Error> {
        let fail = || Error::rows(self.name);
        let array = match &pieces[0].source {
            Source::Segment(segment) => segment.array()?,
            Source::File(reader) => first_array(reader),
            Source::Values(_) | Source::Strings(_) => unreachable!("copied, not decoded"),
        };
        let backend = CpuBackend::new();
        let follow = pieces.windows(2).all(|pair| pair[0].dst + pair[0].len == pair[1].dst);
        let ranges: Vec<Range<u64>> = pieces.iter().map(|piece| piece.row..piece.row + piece.len).collect();
        let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
        if follow {
            let into = index(first.dst) * self.row_len..index(last.dst + last.len) * self.row_len;
            let mut buffer = HostBuffer::from_bytes(self.dtype, &mut self.out[into])
                .map_err(|error| fail()(error.into()))?;
            return array.decode(&backend, ranges, self.dtype, &mut buffer).map_err(fail());
        }
        let count: u64 = pieces.iter().map(|piece| piece.len).sum();
        let mut bytes = cvc::AlignedBytes::new();
        let mut buffer = HostBuffer::from_bytes(self.dtype, bytes.resize(index(count) * self.row_len))
            .map_err(|error| fail()(error.into()))?;
        array.decode(&backend, ranges, self.dtype, &mut buffer).map_err(fail())?;
        let mut rest = bytes.bytes();
        for piece in pieces {
            let (rows, after) = rest.split_at(index(piece.len) * self.row_len);
            rest = after;
            let at = index(piece.dst) * self.row_len;
            self.out[at..at + rows.len()].copy_from_slice(rows);
        }
        Ok(())
    }
}

/// A row that is nowhere: no writer makes one.
pub(crate) fn no_place(position: u64) -> Error {
    Error::argument(
        "rows",
        position,
        "this position has no place: restore the store from a copy, and report this bug of cvc-store",
    )
}

/// The array of a file in the journal.
pub(crate) fn first_array(reader: &Reader) -> Array<'_> {
    reader.arrays().next().expect("looked at when it was decoded")
}

/// The strings of the positions that `each` hands over, in their order.
pub(crate) fn read_strings(
    name: &str,
    array: &ArrayState,
    each: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<(), Error>,
) -> Result<Strings, Error> {
    let mut pieces: Vec<(Source, Vec<Range<u64>>)> = Vec::new();
    let mut missing = None;
    each(&mut |start, len| {
        let (mut position, end) = (start, start + len);
        while position < end {
            let Some((first, run)) = array.runs.of(position) else {
                missing = Some(position);
                return;
            };
            let stop = end.min(first + run.len);
            let row = run.row_of(first, position);
            let range = row..row + (stop - position);
            match pieces.last_mut() {
                Some((source, ranges)) if source.is(&run.source) => ranges.push(range),
                _ => pieces.push((run.source.clone(), vec![range])),
            }
            position = stop;
        }
    })?;
    if let Some(position) = missing {
        return Err(no_place(position));
    }
    let mut strings = Strings::default();
    for (source, ranges) in pieces {
        match &source {
            Source::Strings(inline) => {
                ranges.into_iter().flatten().for_each(|row| strings.push(inline.get(index(row))));
            }
            Source::Segment(segment) => {
                let read = segment.array()?.read_strings(Rows::from(ranges)).map_err(Error::rows(name))?;
                strings.extend(read.iter());
            }
            Source::File(reader) => {
                let read = first_array(reader).read_strings(Rows::from(ranges)).map_err(Error::rows(name))?;
                strings.extend(read.iter());
            }
            Source::Values(_) => unreachable!("values are no strings"),
        }
    }
    Ok(strings)
}

pub(crate) fn index(row: u64) -> usize {
    usize::try_from(row).expect("rows that are in memory")
}
