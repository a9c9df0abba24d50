//! The JSON header, field by field. One short path that checks everything; an error for each way to be wrong.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::{DTYPES, VECTORS, codec_of, header_offset, stored_names};
use crate::dtype::DType;
use crate::error::FormatError;
use crate::fields::{Field, Part};
use crate::index::{
    AffineParams, ArrayIndex, ChunkEntry, ChunkId, FileIndex, Frame, Layout, Params, Section, Stored,
};
use crate::json::Json;
use crate::limits::Limits;

/// A header whose own fields make sense. Its chunks still have to be found in the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) layout: Layout,
    /// Where the header ends in the file.
    pub(super) end: u64,
    pub(super) chunks: Vec<ChunkFields>,
    arrays: Vec<ArrayFields>,
    sections: Vec<Section>,
    json: Json,
}

/// What the header says of one chunk.
#[derive(Debug)]
pub(super) struct ChunkFields {
    rows: Range<u64>,
    /// Where the frame begins, in the mapped layout.
    pub(super) file_offset: Option<u64>,
    metadata: Option<Json>,
    /// One for each array, in the order of the arrays.
    parts: Vec<Share>,
}

/// What the header says of one array.
#[derive(Debug)]
struct ArrayFields {
    name: String,
    dtype: DType,
    dim: u32,
    scalar: bool,
    codec: Arc<str>,
}

/// One array's share of one chunk.
#[derive(Debug)]
struct Share {
    codec: Arc<str>,
    params: Params,
    /// The bytes within the payload; all of it where the layout has one array.
    within: Option<Range<u64>>,
}

impl Header {
    /// Parses the header of a file in `layout` (`V1` stands for both of its forms).
    pub(super) fn parse(
        layout: Layout,
        bytes: &[u8],
        end: u64,
        limits: &Limits,
    ) -> Result<Header, FormatError> {
        let json = Json::parse(bytes, limits.json_depth)
            .map_err(|error| FormatError::Json { offset: header_offset(layout), error })?;
        let root = Field::root(&json, Part::Header);
        let layout = match (layout, json.get("mmap_optimized")) {
            (Layout::V1, Some(Json::Bool(true))) => Layout::V1Mmap,
            (Layout::V1, Some(other)) if other.as_bool() != Some(false) => {
                return Err(root.get("mmap_optimized")?.wrong("true or false"));
            }
            _ => layout,
        };
        let rows = root.get("num_vectors")?.u64()?;
        let arrays = match layout {
            Layout::V2 => columns(&root, limits)?,
            _ => alloc::vec![ArrayFields {
                name: VECTORS.into(),
                dtype: DType::F32,
                dim: root.get("dimension")?.u32()?,
                scalar: false,
                codec: codec(&root.get("compression")?, layout)?,
            }],
        };
        let chunks = chunks(&root, layout, &arrays, limits)?;
        let held = chunks.last().map_or(0, |chunk| chunk.rows.end);
        if held != rows {
            let problem = format!("is {rows}, but its chunks hold {held} rows");
            return Err(FormatError::Header { path: "num_vectors".into(), problem });
        }
        let sections = match json.get("sections") {
            None => Vec::new(),
            Some(_) => sections(&root.get("sections")?, rows, limits)?,
        };
        Ok(Header { layout, end, chunks, arrays, sections, json })
    }

    /// The index, once every chunk's frame has been found.
    pub(super) fn finish(self, frames: Vec<Frame>, trailing_len: u64) -> Result<FileIndex, FormatError> {
        let mut arrays: Vec<ArrayIndex> = self
            .arrays
            .into_iter()
            .map(|array| ArrayIndex {
                name: array.name,
                dtype: array.dtype.into(),
                rows: 0,
                dim: array.dim,
                inner: if array.scalar { Vec::new() } else { alloc::vec![array.dim] },
                codec: array.codec,
                codec_options: no_object(),
                provenance: None,
                requires: Vec::new(),
                chunks: Vec::new(),
            })
            .collect();
        let mut chunk_metadata = Vec::new();
        for (index, (fields, frame)) in self.chunks.into_iter().zip(&frames).enumerate() {
            for (array, part) in arrays.iter_mut().zip(fields.parts) {
                let bytes = match part.within {
                    None => frame.bytes.clone(),
                    Some(within) => {
                        let bytes = frame.bytes.start.checked_add(within.start)
                            ..frame.bytes.start.checked_add(within.end);
                        match bytes {
                            Range { start: Some(start), end: Some(end) } if end <= frame.bytes.end => {
                                start..end
                            }
                            _ => {
                                let chunk = ChunkId(u32::try_from(index).unwrap_or(u32::MAX));
                                let problem = format!(
                                    "the header places column {:?} at {}..{} of a payload of {} bytes",
                                    array.name,
                                    within.start,
                                    within.end,
                                    frame.bytes.end - frame.bytes.start
                                );
                                return Err(FormatError::Frame { chunk, offset: frame.bytes.start, problem });
                            }
                        }
                    }
                };
                array.rows = fields.rows.end;
                array.chunks.push(ChunkEntry {
                    rows: fields.rows.clone(),
                    bytes,
                    codec: part.codec,
                    stored: Stored::Framed { frame: index, params: part.params },
                });
            }
            chunk_metadata.push(fields.metadata);
        }
        if chunk_metadata.iter().all(Option::is_none) {
            chunk_metadata.clear();
        }
        Ok(FileIndex {
            layout: self.layout,
            arrays,
            sections: self.sections,
            sections_from_chunks: false,
            chunk_metadata,
            metadata: no_object(),
            frames,
            header: self.json,
            trailing_len,
        })
    }
}

/// What these layouts have no place for.
fn no_object() -> Json {
    Json::Object(Vec::new())
}

/// The columns of a v2 header.
fn columns(root: &Field<'_>, limits: &Limits) -> Result<Vec<ArrayFields>, FormatError> {
    let format_type = root.get("format_type")?;
    if format_type.str()? != "columnar" {
        return Err(format_type.wrong("\"columnar\""));
    }
    let list = root.get("columns")?;
    let items = list.items_within("column count", limits.arrays, "arrays")?;
    let mut arrays: Vec<ArrayFields> = Vec::with_capacity(items.len());
    for column in items {
        let name = column.get("name")?;
        let dtype = column.get("dtype")?;
        let stored = dtype.str()?;
        let dim = column.get("dimension")?;
        let array = ArrayFields {
            name: name.str()?.to_string(),
            dtype: match DTYPES.iter().find(|(name, _)| *name == stored) {
                Some((_, dtype)) => *dtype,
                None => return Err(dtype.wrong("a dtype that columns can have")),
            },
            dim: dim.u32()?,
            scalar: dim.u32()? == 1,
            codec: codec(&column.get("compression")?, Layout::V2)?,
        };
        if array.dim == 0 {
            return Err(dim.wrong("1 or more"));
        }
        if arrays.iter().any(|other| other.name == array.name) {
            return Err(name.wrong("a name that no other column has"));
        }
        arrays.push(array);
    }
    if arrays.is_empty() {
        return Err(list.wrong("at least one column"));
    }
    Ok(arrays)
}

fn chunks(
    root: &Field<'_>,
    layout: Layout,
    arrays: &[ArrayFields],
    limits: &Limits,
) -> Result<Vec<ChunkFields>, FormatError> {
    let list = root.get("chunks")?;
    let items = list.items_within("chunk count", limits.chunks, "chunks")?;
    let mut chunks = Vec::with_capacity(items.len());
    let positions: BTreeMap<&str, usize> = arrays.iter().map(|array| array.name.as_str()).zip(0..).collect();
    let mut first_row = 0u64;
    for chunk in items {
        let rows = u64::from(chunk.get("rows")?.u32()?);
        // At most 2^24 chunks of 2^32 rows by default, and never near 2^64 chunks: a header is finite.
        let last_row = first_row + rows;
        let file_offset = match layout {
            Layout::V1Mmap => Some(chunk.get("file_offset")?.u64()?),
            _ => None,
        };
        let parts = match layout {
            Layout::V2 => parts(&chunk.get("columns")?, arrays, &positions)?,
            _ => {
                // Upstream writes it for every chunk and reads only the one of the file; both may be relied on.
                let codec = match chunk.json.get("compression") {
                    None => arrays[0].codec.clone(),
                    Some(_) => codec(&chunk.get("compression")?, layout)?,
                };
                alloc::vec![Share { params: params(&chunk, &codec)?, codec, within: None }]
            }
        };
        let metadata = chunk.json.get("metadata").cloned();
        chunks.push(ChunkFields { rows: first_row..last_row, file_offset, metadata, parts });
        first_row = last_row;
    }
    Ok(chunks)
}

/// Every array's share of one chunk of a v2 file.
fn parts(
    columns: &Field<'_>,
    arrays: &[ArrayFields],
    positions: &BTreeMap<&str, usize>,
) -> Result<Vec<Share>, FormatError> {
    // One pass over the members, however many there are; of duplicate keys the last counts.
    let members = columns.json.as_object().ok_or_else(|| columns.wrong("an object"))?;
    let mut found = alloc::vec![None; arrays.len()];
    for (key, json) in members {
        if let Some(position) = key.as_str().and_then(|name| positions.get(name)) {
            found[*position] = Some(json);
        }
    }
    let part = |(array, json): (&ArrayFields, Option<&Json>)| {
        let part = columns.member(&array.name, json)?;
        let (offset, size) = (part.get("offset")?.u64()?, part.get("size")?);
        let end = offset.checked_add(size.u64()?).ok_or_else(|| size.wrong("a size that a file can have"))?;
        let codec = codec(&part.get("compression")?, Layout::V2)?;
        Ok(Share { params: params(&part, &codec)?, codec, within: Some(offset..end) })
    };
    arrays.iter().zip(found).map(part).collect()
}

/// The parameters that the codec of a chunk needs.
fn params(fields: &Field<'_>, codec: &str) -> Result<Params, FormatError> {
    match codec {
        "cvcf.int8" | "cvcf0.int8" => Ok(Params::Affine(AffineParams {
            min: fields.get("min")?.f64()?,
            scale: fields.get("scale")?.f64()?,
        })),
        _ => Ok(Params::None),
    }
}

fn sections(list: &Field<'_>, rows: u64, limits: &Limits) -> Result<Vec<Section>, FormatError> {
    let items = list.items_within("section count", limits.sections, "sections")?;
    let mut sections = Vec::with_capacity(items.len());
    let mut previous_end = 0;
    for section in items {
        let (start, end) = (section.get("start_index")?, section.get("end_index")?);
        let range = start.u64()?..end.u64()?;
        if range.start < previous_end {
            return Err(start.wrong("a row that no section before it has"));
        }
        if range.end < range.start || range.end > rows {
            return Err(end.wrong("a row from start_index to num_vectors"));
        }
        let count = section.get("num_vectors")?;
        if count.u64()? != range.end - range.start {
            return Err(count.wrong("end_index - start_index"));
        }
        previous_end = range.end;
        sections.push(Section {
            rows: range,
            metadata: section.json.get("metadata").cloned().unwrap_or(Json::Null),
        });
    }
    Ok(sections)
}

/// The one name of the codec that this string names.
fn codec(field: &Field<'_>, layout: Layout) -> Result<Arc<str>, FormatError> {
    match codec_of(layout, field.str()?) {
        Some(codec) => Ok(codec.into()),
        None => {
            let known: Vec<&str> = stored_names(layout).collect();
            Err(field.wrong(&format!("one of {} in layout {layout}", known.join(", "))))
        }
    }
}
