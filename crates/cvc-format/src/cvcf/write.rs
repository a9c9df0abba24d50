//! What stands in front of the payloads, byte for byte as upstream writes it.
//!
//! The header comes first in these layouts and holds facts about every chunk, so it can only be written when
//! all chunks are known: a writer keeps the payloads aside until then.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{DTYPES, MAGIC, VECTORS, stored_name, stored_names};
use crate::dtype::DType;
use crate::error::FormatError;
use crate::index::{Layout, Params, Section};
use crate::json::{Json, Style};
use crate::limits::Limits;

/// An array to be written.
#[derive(Clone, Debug)]
pub struct ArraySpec {
    /// Its name; v0 and v1 hold only one, named [`VECTORS`].
    pub name: String,
    /// The dtype of the values that went in; only v2 records it.
    pub dtype: DType,
    /// Values per row.
    pub dim: u32,
    /// The name of its codec.
    pub codec: &'static str,
}

/// A chunk to be written.
#[derive(Clone, Debug)]
pub struct ChunkSpec {
    /// Rows in it.
    pub rows: u32,
    /// For each array, in order: the length of its encoded bytes and their parameters.
    pub parts: Vec<(u64, Params)>,
    /// Its metadata: for every chunk or for none.
    pub metadata: Option<Json>,
}

/// All that a header says.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// The layout to write: v0, v1 or v2.
    pub layout: Layout,
    /// The arrays, in order.
    pub arrays: &'a [ArraySpec],
    /// The chunks, in row order.
    pub chunks: &'a [ChunkSpec],
    /// The sections, in row order; `None` for a file that was not packed by sections.
    pub sections: Option<&'a [Section]>,
}

impl Contents<'_> {
    /// Whether `layout` can hold arrays like these, before anything is encoded.
    ///
    /// # Errors
    /// What it cannot hold, and what to do.
    pub fn check_arrays(layout: Layout, arrays: &[ArraySpec]) -> Result<(), FormatError> {
        let cannot = |problem: String| Err(FormatError::CannotWrite { layout: layout.name(), problem });
        match layout {
            Layout::V0 | Layout::V1 => {
                if arrays.len() != 1 || arrays[0].name != VECTORS {
                    let names: Vec<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
                    return cannot(format!(
                        "it has one array, named \"{VECTORS}\", not [{}]; write named arrays with layout v2",
                        names.join(", ")
                    ));
                }
            }
            Layout::V2 => {
                if arrays.is_empty() {
                    return cannot("a columnar file needs at least one array".into());
                }
                for (index, array) in arrays.iter().enumerate() {
                    let name = &array.name;
                    if name.trim().is_empty() {
                        return cannot("the name of an array must not be empty".into());
                    }
                    if arrays[..index].iter().any(|other| other.name == *name) {
                        return cannot(format!("two arrays are named {name:?}"));
                    }
                    if array.dim == 0 {
                        return cannot(format!("array {name:?} has rows of 0 values; at least 1 is needed"));
                    }
                    if dtype_name(array.dtype).is_none() {
                        let known: Vec<&str> = DTYPES.iter().map(|(_, dtype)| dtype.name()).collect();
                        return cannot(format!(
                            "array {name:?} has dtype {}; it can say {}",
                            array.dtype,
                            known.join(", ")
                        ));
                    }
                }
            }
            Layout::Native => return cannot("it is not a CVCF layout; see `native::Contents`".into()),
            Layout::V1Mmap => {
                return cannot(
                    "upstream's writer of it damages its own files, so it is only read; write layout v1"
                        .into(),
                );
            }
        }
        for array in arrays {
            if stored_name(layout, array.codec).is_none() {
                let known: Vec<&str> = stored_names(layout).collect();
                return cannot(format!("codec \"{}\"; it has {}", array.codec, known.join(", ")));
            }
        }
        Ok(())
    }

    /// Whether metadata can stand in a header that every reader opens with its default limits.
    ///
    /// # Errors
    /// It is nested too deeply.
    pub fn check_metadata(layout: Layout, metadata: &Json) -> Result<(), FormatError> {
        // The header, its chunks, a chunk, its sections, a section.
        let most = Limits::default().json_depth - 5;
        let depth = metadata.depth();
        if depth <= most {
            return Ok(());
        }
        let problem = format!("metadata nested {depth} deep; {most} are possible");
        Err(FormatError::CannotWrite { layout: layout.name(), problem })
    }

    /// Whether this many chunks can stand in a header that every reader opens with its default limits.
    ///
    /// # Errors
    /// They are too many.
    pub fn check_chunk_count(layout: Layout, chunks: u64) -> Result<(), FormatError> {
        // `{"compression":"fp16","rows":1},` is the least that is said of a chunk.
        let most = Limits::default().header_len / 32;
        if chunks <= most {
            return Ok(());
        }
        let problem = format!("{chunks} chunks; {most} are possible, so put more rows in a chunk");
        Err(FormatError::CannotWrite { layout: layout.name(), problem })
    }

    /// Everything in front of the first frame: magic, version, length, header.
    ///
    /// # Errors
    /// The layout cannot say this.
    ///
    /// # Panics
    /// A chunk does not have one part for each array.
    pub fn prefix(&self) -> Result<Vec<u8>, FormatError> {
        Contents::check_arrays(self.layout, self.arrays)?;
        let has_metadata = self.chunks.iter().any(|chunk| chunk.metadata.is_some());
        if has_metadata && self.sections.is_some() {
            return self
                .cannot("sections and chunk metadata in one file; put all of it on the sections".into());
        }
        if has_metadata && self.layout == Layout::V2 {
            return self.cannot("chunk metadata; use sections".into());
        }
        if self.layout == Layout::V2 && self.chunks.is_empty() {
            return self.cannot("an array without rows".into());
        }
        self.check_sections()?;
        Contents::check_chunk_count(self.layout, self.chunks.len() as u64)?;
        let metadata = self.chunks.iter().filter_map(|chunk| chunk.metadata.as_ref());
        for metadata in
            metadata.chain(self.sections.unwrap_or_default().iter().map(|section| &section.metadata))
        {
            Contents::check_metadata(self.layout, metadata)?;
        }
        for (array, part) in self.chunks.iter().flat_map(|chunk| self.arrays.iter().zip(&chunk.parts)) {
            if array.codec.ends_with("int8") != matches!(part.1, Params::Affine(_)) {
                return self.cannot(format!(
                    "parameters of array {:?} that are not those of {}",
                    array.name, array.codec
                ));
            }
        }
        let header = if self.layout == Layout::V2 { self.columnar() } else { self.single() };
        let style = if self.layout == Layout::V0 { Style::Python } else { Style::PythonSorted };
        let text = header.to_string_styled(style);
        // What readers accept by default, which is less than the 32 bits of the length.
        let limit = Limits::default().header_len;
        let Some(header_len) = u32::try_from(text.len()).ok().filter(|len| u64::from(*len) <= limit) else {
            let problem =
                format!("a header of {} bytes, {limit} are possible; use more rows a chunk", text.len());
            return self.cannot(problem + ", or say less in metadata, which is repeated in every chunk");
        };
        let mut bytes = Vec::with_capacity(12 + text.len());
        bytes.extend(MAGIC);
        match self.layout {
            Layout::V0 => {}
            Layout::V2 => bytes.extend([2, 0, 0, 0]),
            _ => bytes.extend([1, 0, 0, 0]),
        }
        bytes.extend(header_len.to_le_bytes());
        bytes.extend(text.as_bytes());
        Ok(bytes)
    }

    /// What stands in front of a payload of this length and CRC-32 (IEEE).
    ///
    /// # Errors
    /// The payload is too long for the layout.
    pub fn frame_header(layout: Layout, payload_len: u64, crc32: u32) -> Result<Vec<u8>, FormatError> {
        let Ok(len) = u32::try_from(payload_len) else {
            let problem = format!(
                "a chunk of {payload_len} encoded bytes, 4294967295 are possible; use fewer rows a chunk"
            );
            return Err(FormatError::CannotWrite { layout: layout.name(), problem });
        };
        let mut bytes = len.to_le_bytes().to_vec();
        if layout.has_checksums() {
            bytes.extend(crc32.to_le_bytes());
        }
        Ok(bytes)
    }

    fn cannot<T>(&self, problem: String) -> Result<T, FormatError> {
        Err(FormatError::CannotWrite { layout: self.layout.name(), problem })
    }

    /// Sections are sorted, do not overlap, and lie within the rows.
    fn check_sections(&self) -> Result<(), FormatError> {
        let count = self.sections.unwrap_or_default().len();
        if count > Limits::default().sections {
            return self.cannot(format!("{count} sections; {} are possible", Limits::default().sections));
        }
        let (mut previous_end, total) = (0, self.row_count());
        for Section { rows, .. } in self.sections.unwrap_or_default() {
            if rows.start < previous_end || rows.end < rows.start || rows.end > total {
                return self.cannot(format!(
                    "section {}..{}: sections must be sorted, must not overlap and end within the {total} rows",
                    rows.start, rows.end
                ));
            }
            previous_end = rows.end;
        }
        Ok(())
    }

    fn row_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum()
    }

    /// The header of v0 and v1. Keys are in v0's order; v1 sorts them when it is written.
    fn single(&self) -> Json {
        let array = &self.arrays[0];
        let mut header = alloc::vec![
            ("num_vectors", Json::from(self.row_count())),
            ("dimension", Json::from(u64::from(array.dim))),
            ("compression", self.stored_name(array)),
        ];
        if let Some(sections) = self.sections {
            header.push(("sections", section_list(sections)));
        }
        let mut first_row = 0;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for chunk in self.chunks {
            let mut fields = alloc::vec![("rows", Json::from(u64::from(chunk.rows)))];
            fields.extend(self.codec_fields(array, &chunk.parts[0].1));
            if let Some(metadata) = &chunk.metadata {
                fields.push(("metadata", metadata.clone()));
            }
            let last_row = first_row + u64::from(chunk.rows);
            if let Some(sections) = self.sections {
                fields.push(("sections", Json::Array(parts_in(sections, first_row, last_row))));
            }
            first_row = last_row;
            chunks.push(Json::object(fields));
        }
        header.push(("chunks", Json::Array(chunks)));
        Json::object(header)
    }

    /// The header of v2.
    fn columnar(&self) -> Json {
        let columns = self.arrays.iter().map(|array| {
            Json::object([
                ("name", Json::from(array.name.as_str())),
                ("dimension", Json::from(u64::from(array.dim))),
                ("dtype", Json::from(dtype_name(array.dtype).expect("checked by check_arrays"))),
                ("compression", self.stored_name(array)),
            ])
        });
        let mut header = alloc::vec![
            ("format_type", Json::from("columnar")),
            ("num_vectors", Json::from(self.row_count())),
            ("columns", Json::Array(columns.collect())),
        ];
        if let Some(sections) = self.sections {
            header.push(("sections", section_list(sections)));
        }
        let mut first_row = 0;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for chunk in self.chunks {
            let mut offset = 0;
            let mut columns = Vec::with_capacity(self.arrays.len());
            for (array, (len, params)) in self.arrays.iter().zip(&chunk.parts) {
                let mut fields = self.codec_fields(array, params);
                fields.push(("offset", Json::from(offset)));
                fields.push(("size", Json::from(*len)));
                offset += len;
                columns.push((array.name.as_str(), Json::object(fields)));
            }
            let mut fields =
                alloc::vec![("rows", Json::from(u64::from(chunk.rows))), ("columns", Json::object(columns))];
            let last_row = first_row + u64::from(chunk.rows);
            // Unlike v1, only where there are any.
            let parts = parts_in(self.sections.unwrap_or_default(), first_row, last_row);
            if !parts.is_empty() {
                fields.push(("sections", Json::Array(parts)));
            }
            first_row = last_row;
            chunks.push(Json::object(fields));
        }
        header.push(("chunks", Json::Array(chunks)));
        Json::object(header)
    }

    fn stored_name(&self, array: &ArraySpec) -> Json {
        Json::from(stored_name(self.layout, array.codec).expect("checked by check_arrays"))
    }

    fn codec_fields(&self, array: &ArraySpec, params: &Params) -> Vec<(&'static str, Json)> {
        let mut fields = alloc::vec![("compression", self.stored_name(array))];
        if let Params::Affine(affine) = params {
            fields.push(("min", Json::from(affine.min)));
            fields.push(("scale", Json::from(affine.scale)));
        }
        fields
    }
}

fn dtype_name(dtype: DType) -> Option<&'static str> {
    DTYPES.iter().find(|(_, named)| *named == dtype).map(|(name, _)| *name)
}

fn section_list(sections: &[Section]) -> Json {
    let item = |section: &Section| {
        Json::object([
            ("start_index", Json::from(section.rows.start)),
            ("end_index", Json::from(section.rows.end)),
            ("num_vectors", Json::from(section.rows.end - section.rows.start)),
            ("metadata", section.metadata.clone()),
        ])
    };
    Json::Array(sections.iter().map(item).collect())
}

/// What each section that touches rows `first..last` has in them. An empty section counts where it lies
/// strictly inside, as upstream's comparison has it.
fn parts_in(sections: &[Section], first: u64, last: u64) -> Vec<Json> {
    // Sections are sorted and do not overlap, so those that touch the chunk are neighbours.
    let from = sections.partition_point(|section| section.rows.end <= first);
    let touching = sections[from..].iter().take_while(|section| section.rows.start < last);
    touching
        .map(|section| {
            let within = section.rows.start.max(first) - first..section.rows.end.min(last) - first;
            Json::object([
                ("metadata", section.metadata.clone()),
                ("start_in_chunk", Json::from(within.start)),
                ("end_in_chunk", Json::from(within.end)),
                ("section_start", Json::from(section.rows.start)),
                ("section_end", Json::from(section.rows.end)),
            ])
        })
        .collect()
}
