//! Changes: what the body of a commit is a list of. The writer makes them, the journal keeps them, and whoever opens the
//! store applies the same ones with the same code.

use std::sync::Arc;

use bytes::Bytes;
use cvc::format::ArrayDType;
use cvc::{Json, Reader};
use roaring::RoaringTreemap;

use crate::layer::Layer;
use crate::runs::Source;
use crate::segment::Segment;
use crate::spec::{ArraySpec, json_of, json_text, put_strings, strings_of};
use crate::state::{Placed, State};
use crate::wire::{Problem, Wire, put_bytes, put_str, put_u8, put_u32, put_u64};

/// One change. `docs/STORE.md` has the bytes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Segment(Arc<Segment>),
    Create {
        name: String,
        spec: ArraySpec,
        base: u64,
        next: u64,
        made: u64,
        changed: u64,
    },
    /// Rows for these ranges of positions (first, count), one after another.
    Rows {
        name: String,
        ranges: Vec<(u64, u64)>,
        source: Source,
        row: u64,
    },
    /// The rows of these positions are now in a segment, from `row` on.
    Fold {
        name: String,
        positions: RoaringTreemap,
        segment: Arc<Segment>,
        row: u64,
    },
    Delete {
        name: String,
        positions: RoaringTreemap,
    },
    Drop {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Clone {
        from: String,
        to: String,
        made: u64,
    },
    ArrayMetadata {
        name: String,
        metadata: Json,
    },
    Metadata {
        metadata: Json,
    },
    Sections {
        name: String,
        sections: Vec<Placed>,
    },
    Keep {
        commits: u64,
    },
}

impl Change {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Change::Segment(segment) => {
                put_u8(out, 1);
                put_u64(out, segment.number);
                put_u64(out, segment.len);
                put_u64(out, segment.rows);
                put_u32(out, segment.seal);
            }
            Change::Create { name, spec, base, next, made, changed } => {
                put_u8(out, 2);
                put_str(out, name);
                spec.encode(out);
                [*base, *next, *made, *changed].into_iter().for_each(|number| put_u64(out, number));
            }
            Change::Rows { name, ranges, source, row } => {
                put_u8(out, 3);
                put_str(out, name);
                put_u32(out, u32::try_from(ranges.len()).expect("a change has fewer than 2^32 ranges"));
                for (start, len) in ranges {
                    put_u64(out, *start);
                    put_u64(out, *len);
                }
                encode_source(source, *row, out);
            }
            Change::Fold { name, positions, segment, row } => {
                put_u8(out, 4);
                put_str(out, name);
                put_bitmap(out, positions);
                put_u64(out, segment.number);
                put_u64(out, *row);
            }
            Change::Delete { name, positions } => {
                put_u8(out, 5);
                put_str(out, name);
                put_bitmap(out, positions);
            }
            Change::Drop { name } => {
                put_u8(out, 6);
                put_str(out, name);
            }
            Change::Rename { from, to } => {
                put_u8(out, 7);
                put_str(out, from);
                put_str(out, to);
            }
            Change::Clone { from, to, made } => {
                put_u8(out, 8);
                put_str(out, from);
                put_str(out, to);
                put_u64(out, *made);
            }
            Change::ArrayMetadata { name, metadata } => {
                put_u8(out, 9);
                put_str(out, name);
                put_str(out, &json_text(metadata));
            }
            Change::Metadata { metadata } => {
                put_u8(out, 10);
                put_str(out, &json_text(metadata));
            }
            Change::Sections { name, sections } => {
                put_u8(out, 11);
                put_str(out, name);
                put_u32(out, u32::try_from(sections.len()).expect("fewer than 2^32 sections"));
                for section in sections {
                    put_u64(out, section.positions.start);
                    put_u64(out, section.positions.end);
                    put_str(out, &json_text(&section.metadata));
                }
            }
            Change::Keep { commits } => {
                put_u8(out, 12);
                put_u64(out, *commits);
            }
        }
    }

    /// The next change of a body, made of what is known in `state`. If the body lies in `whole`, the change keeps parts
    /// of that, and copies otherwise.
    pub(crate) fn decode(
        wire: &mut Wire<'_>,
        whole: Option<&Bytes>,
        state: &State,
        layer: &Arc<dyn Layer>,
    ) -> Result<Change, Problem> {
        let name = |wire: &mut Wire<'_>| wire.str().map(str::to_owned);
        let segment = |wire: &mut Wire<'_>| state.segment(wire.u64()?);
        Ok(match wire.u8()? {
            1 => {
                let (number, len, rows, seal) = (wire.u64()?, wire.u64()?, wire.u64()?, wire.u32()?);
                if number >= crate::names::NUMBERS {
                    return Err(format!("no segment has the number {number}"));
                }
                Change::Segment(Segment::new(Arc::clone(layer), number, len, rows, seal))
            }
            2 => Change::Create {
                name: name(wire)?,
                spec: ArraySpec::decode(wire)?,
                base: wire.u64()?,
                next: wire.u64()?,
                made: wire.u64()?,
                changed: wire.u64()?,
            },
            3 => {
                let name = name(wire)?;
                let count = wire.u32()?;
                let mut ranges = Vec::new();
                let mut rows = 0u64;
                for _ in 0..count {
                    let (start, len) = (wire.u64()?, wire.u64()?);
                    rows = rows.checked_add(len).ok_or("it has too many rows")?;
                    ranges.push((start, len));
                }
                let spec = &state.array(&name)?.spec;
                let (source, row) = match wire.u8()? {
                    1 => (Source::Segment(segment(wire)?), wire.u64()?),
                    2 => (inline(spec, wire.bytes()?, rows, whole)?, 0),
                    3 => (file(spec, wire.bytes()?, rows)?, 0),
                    other => return Err(format!("source {other} is not known")),
                };
                Change::Rows { name, ranges, source, row }
            }
            4 => Change::Fold {
                name: name(wire)?,
                positions: bitmap(wire)?,
                segment: segment(wire)?,
                row: wire.u64()?,
            },
            5 => Change::Delete { name: name(wire)?, positions: bitmap(wire)? },
            6 => Change::Drop { name: name(wire)? },
            7 => Change::Rename { from: name(wire)?, to: name(wire)? },
            8 => Change::Clone { from: name(wire)?, to: name(wire)?, made: wire.u64()? },
            9 => Change::ArrayMetadata { name: name(wire)?, metadata: json_of(wire.str()?)? },
            10 => Change::Metadata { metadata: json_of(wire.str()?)? },
            11 => {
                let name = name(wire)?;
                let mut sections = Vec::new();
                for _ in 0..wire.u32()? {
                    let positions = wire.u64()?..wire.u64()?;
                    sections.push(Placed { positions, metadata: json_of(wire.str()?)? });
                }
                Change::Sections { name, sections }
            }
            12 => Change::Keep { commits: wire.u64()? },
            other => return Err(format!("change {other} is not known: a newer version may have made it")),
        })
    }
}

fn encode_source(source: &Source, row: u64, out: &mut Vec<u8>) {
    match source {
        Source::Segment(segment) => {
            put_u8(out, 1);
            put_u64(out, segment.number);
            put_u64(out, row);
        }
        Source::Values(bytes) => {
            put_u8(out, 2);
            put_bytes(out, bytes);
        }
        Source::Strings(strings) => {
            put_u8(out, 2);
            let at = out.len();
            put_u64(out, 0);
            put_strings(strings, out);
            let len = (out.len() - at - 8) as u64;
            out[at..at + 8].copy_from_slice(&len.to_le_bytes());
        }
        Source::File(reader) => {
            put_u8(out, 3);
            let bytes = reader.source().borrow(0..reader.source().len());
            put_bytes(out, bytes.expect("it is in memory"));
        }
    }
}

fn inline(spec: &ArraySpec, bytes: &[u8], rows: u64, whole: Option<&Bytes>) -> Result<Source, Problem> {
    if spec.dtype == ArrayDType::Utf8 {
        return Ok(Source::Strings(Arc::new(strings_of(bytes, rows)?)));
    }
    let expected = rows.checked_mul(spec.row_len() as u64);
    if expected != Some(bytes.len() as u64) {
        return Err(format!("{rows} rows of {} bytes are not {} bytes", spec.row_len(), bytes.len()));
    }
    Ok(Source::Values(whole.map_or_else(|| Bytes::copy_from_slice(bytes), |whole| whole.slice_ref(bytes))))
}

fn file(spec: &ArraySpec, bytes: &[u8], rows: u64) -> Result<Source, Problem> {
    let reader = Reader::from_bytes(bytes.to_vec()).map_err(|error| error.to_string())?;
    match reader.arrays().next() {
        Some(array)
            if array.rows() == rows && array.dim() == spec.dim() && array.index().dtype == spec.dtype => {}
        _ => return Err("a file within it has other rows than it says".into()),
    }
    Ok(Source::File(Arc::new(reader)))
}

fn put_bitmap(out: &mut Vec<u8>, bitmap: &RoaringTreemap) {
    put_u64(out, bitmap.serialized_size() as u64);
    bitmap.serialize_into(out).expect("memory takes all of it");
}

fn bitmap(wire: &mut Wire<'_>) -> Result<RoaringTreemap, Problem> {
    let mut bytes = wire.bytes()?;
    let bitmap =
        RoaringTreemap::deserialize_from(&mut bytes).map_err(|error| format!("a bitmap: {error}"))?;
    if bytes.is_empty() { Ok(bitmap) } else { Err("there is something behind a bitmap".into()) }
}
