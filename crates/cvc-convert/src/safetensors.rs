//! Safetensors. Its crate checks the header; the header of a new file is written here, so that tensors can follow it a piece at
//! a time.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::safetensors::tensor::{Dtype, SafeTensors};
use cvc::format::json::Style;
use cvc::io::atomic_file::AtomicFile;
use cvc::io::mmap::Map;
use cvc::{AlignedBytes, DType, Json};

use crate::arrays::{Arrays, Lends};
use crate::error::Error;
use crate::from_cvc::Plan;
use crate::said::{KEY, from_pairs, to_pairs};
use crate::table::{Column, Holds, Piece, batch_rows, little_endian};
use crate::{Converted, Options, Progress};

/// The names of dtypes in a header.
const DTYPES: [(DType, Dtype, &str); 14] = [
    (DType::Bool, Dtype::BOOL, "BOOL"),
    (DType::U8, Dtype::U8, "U8"),
    (DType::I8, Dtype::I8, "I8"),
    (DType::U16, Dtype::U16, "U16"),
    (DType::I16, Dtype::I16, "I16"),
    (DType::F16, Dtype::F16, "F16"),
    (DType::Bf16, Dtype::BF16, "BF16"),
    (DType::U32, Dtype::U32, "U32"),
    (DType::I32, Dtype::I32, "I32"),
    (DType::F32, Dtype::F32, "F32"),
    (DType::U64, Dtype::U64, "U64"),
    (DType::I64, Dtype::I64, "I64"),
    (DType::F64, Dtype::F64, "F64"),
    (DType::C64, Dtype::C64, "C64"),
];

/// A tensor in a mapped file.
struct Tensor {
    map: Arc<Map>,
    bytes: Range<usize>,
    rows: u64,
    dtype: DType,
    /// For messages.
    name: String,
    path: std::path::PathBuf,
}

impl Lends for Tensor {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&self, rows: Range<u64>, into: &mut AlignedBytes) -> Result<(), Error> {
        let all = &self.map[self.bytes.clone()];
        let row_len = usize::try_from(self.rows).map_or(0, |rows| all.len() / rows.max(1));
        let in_map = |row: u64| usize::try_from(row).expect("rows lie in the map") * row_len;
        let bytes = &all[in_map(rows.start)..in_map(rows.end)];
        if self.dtype == DType::Bool && bytes.iter().any(|byte| *byte > 1) {
            return Err(Error::column(
                &self.path,
                &self.name,
                "it holds bools that are neither 0 nor 1; write it again",
            ));
        }
        into.resize(bytes.len()).copy_from_slice(bytes);
        little_endian(self.dtype, into.bytes_mut());
        Ok(())
    }
}

/// Opens a file of tensors, in the order in which they lie in it, or in that which we noted.
///
/// The file stays mapped, and must not change meanwhile.
pub(crate) fn open(source: &Path, options: &Options) -> Result<Arrays, Error> {
    let map = Map::open(source).map_err(Error::io(source, "cannot be read"))?;
    let (header_len, header) = SafeTensors::read_metadata(&map).map_err(|error| {
        Error::damaged(
            source,
            format!(
                "is no sound safetensors file: {error} ({error:?}); it was cut or changed: write it again"
            ),
        )
    })?;
    let (start, map) = (8 + header_len, Arc::new(map));
    let mut pairs: Vec<(&str, &str)> =
        header.metadata().iter().flatten().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    pairs.sort_unstable();
    let order = order(&pairs);
    let mut names = header.offset_keys();
    names.sort_by_key(|name| order.iter().position(|known| known == name).unwrap_or(usize::MAX));
    let mut arrays: Vec<(Column, Box<dyn Lends>)> = Vec::new();
    let (mut said, _) = from_pairs(source, pairs.into_iter())?;
    said.metadata.retain(|(key, _)| key != ORDER);
    let rows_of =
        |name: &String| header.info(name).and_then(|info| info.shape.first()).map(|rows| *rows as u64);
    if let (Some(rows), false) = (said.rows, said.sections.is_empty()) {
        if !names.iter().any(|name| rows_of(name) == Some(rows)) {
            let problem = format!(
                "its metadata under {KEY:?} has sections of {rows} rows, and no array has as many; remove or mend it"
            );
            return Err(Error::damaged(source, problem));
        }
        let chosen = |name: &&String| options.columns.as_ref().is_none_or(|only| only.contains(name));
        if !names.iter().filter(chosen).any(|name| rows_of(name) == Some(rows)) {
            said.sections.clear();
            said.not_kept.push("sections: they speak of the first array, which is not among these".into());
        }
    }
    for name in names {
        if options.columns.as_ref().is_some_and(|only| !only.contains(&name)) {
            continue;
        }
        let Some(info) = header.info(&name) else { continue };
        let refuse =
            |problem: String| Error::column(source, &name, format!("{problem}; leave it out with columns"));
        let Some((dtype, ..)) = DTYPES.iter().find(|(_, theirs, _)| *theirs == info.dtype) else {
            return Err(refuse(format!("it is of {:?}, which a .cvc file has no array for", info.dtype)));
        };
        let Some((rows, inner)) = info.shape.split_first() else {
            return Err(refuse("it is a single value, without rows".into()));
        };
        let inner = inner.iter().map(|len| u32::try_from(*len)).collect::<Result<Vec<u32>, _>>();
        let inner = inner.map_err(|_| refuse("its rows are too large".into()))?;
        let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
        let tensor = Tensor {
            map: map.clone(),
            bytes,
            rows: *rows as u64,
            dtype: *dtype,
            name: name.clone(),
            path: source.to_owned(),
        };
        arrays.push((Column::values(&name, *dtype, inner), Box::new(tensor)));
    }
    Arrays::new(source, arrays, options, said)
}

/// What is no tensor in a header.
const METADATA: &str = "__metadata__";

/// The names of the arrays in their order, which a header does not have.
const ORDER: &str = "cvc.order";

fn order(pairs: &[(&str, &str)]) -> Vec<String> {
    let text = pairs.iter().find(|(key, _)| *key == ORDER).map(|(_, text)| *text);
    let json = text.and_then(|text| Json::parse(text.as_bytes(), 2).ok());
    let names = json.as_ref().and_then(Json::as_array).unwrap_or_default();
    names.iter().filter_map(Json::as_str).map(str::to_owned).collect()
}

pub(crate) fn write(
    plan: &Plan,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let mut tensors = Vec::new();
    for column in &plan.columns {
        let refuse = |problem: String| Err(Error::target(target, &column.name, problem));
        if column.name == METADATA {
            return refuse("a header has metadata under this name; leave it out with columns".into());
        }
        let Holds::Values(dtype, inner) = &column.holds else {
            return refuse("it holds strings, which are no tensor; leave it out with columns".into());
        };
        let Some((.., known)) = DTYPES.iter().find(|(ours, ..)| ours == dtype) else {
            return refuse(format!(
                "there are no tensors of {dtype}; leave it out with columns, or write an .npz"
            ));
        };
        let shape: Vec<u64> =
            [plan.rows_of(column)].into_iter().chain(inner.iter().map(|len| u64::from(*len))).collect();
        tensors.push((column, *dtype, *known, shape));
    }
    let names = tensors.iter().map(|(column, ..)| Json::from(column.name.as_str())).collect();
    let mut pairs = to_pairs(&plan.said, &[]);
    pairs.push((ORDER.to_owned(), Json::Array(names).to_string_styled(Style::Compact)));
    // Large values first, so that each tensor begins on a multiple of their size.
    tensors.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.size()));
    let pairs = pairs.iter().map(|(key, text)| (key.as_str(), Json::from(text.as_str())));
    let mut header = vec![(METADATA, Json::object(pairs))];
    let mut at = 0u64;
    for (column, dtype, known, shape) in &tensors {
        let len = shape.iter().try_fold(dtype.size() as u64, |product, len| product.checked_mul(*len));
        let end = len.and_then(|len| at.checked_add(len)).ok_or_else(|| crate::table::too_large(column))?;
        let numbers =
            |numbers: &[u64]| Json::Array(numbers.iter().map(|number| Json::from(*number)).collect());
        let info =
            [("dtype", Json::from(*known)), ("shape", numbers(shape)), ("data_offsets", numbers(&[at, end]))];
        header.push((column.name.as_str(), Json::object(info)));
        at = end;
    }
    let mut header = Json::object(header).to_string_styled(Style::Compact);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = AtomicFile::create(target, options.overwrite).map_err(Error::output)?;
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::output)?;
    file.write_all(header.as_bytes()).map_err(Error::output)?;
    let all = tensors.iter().map(|(.., shape)| shape[0]).sum();
    let mut done = 0;
    progress(0, Some(all))?;
    for (column, dtype, _, shape) in &tensors {
        let step = batch_rows(column.row_len());
        let mut row = 0;
        while row < shape[0] {
            let next = shape[0].min(row + step);
            let Piece::Values(mut bytes) = plan.read_array(column, row..next)? else {
                unreachable!("values")
            };
            little_endian(*dtype, bytes.bytes_mut());
            file.write_all(bytes.bytes()).map_err(Error::output)?;
            done += next - row;
            row = next;
            progress(done, Some(all))?;
        }
    }
    file.commit().map_err(Error::output)?;
    let arrays = plan.columns.iter().map(|column| column.name.clone()).collect();
    let (sections, file_len) = (plan.said.sections.len(), 8 + header.len() as u64 + at);
    Ok(Converted { rows: plan.rows, arrays, sections, file_len, not_kept: plan.not_kept.clone() })
}
