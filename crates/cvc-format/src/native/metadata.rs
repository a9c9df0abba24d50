//! The metadata block: arrays, sections, the user's own. What is read here is written here too.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::escape::{are_plain_keys, escape, unescape};
use super::write::Contents;
use super::{MAX_ARRAY_ROWS, MAX_INNER_RANK, MAX_NAME_LEN, MAX_ROW_LEN};
use crate::dtype::ArrayDType;
use crate::error::FormatError;
use crate::fields::{Field, Part};
use crate::index::{ArrayIndex, Section};
use crate::json::{Json, Style, Text};
use crate::limits::Limits;

/// What is said of a file beside its index. The arrays have no chunks yet.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) arrays: Vec<ArrayIndex>,
    pub(super) sections: Vec<Section>,
    pub(super) sections_from_chunks: bool,
    /// What the user said of the whole file.
    pub(super) user: Json,
    /// All of it, as it stands.
    pub(super) json: Json,
}

/// The levels around the metadata of a section: the top level, its sections, a section. No place has more.
pub(super) const LEVELS_AROUND: usize = 3;

impl Metadata {
    /// Parses the bytes, which begin at `offset` and have been found whole.
    pub(super) fn parse(bytes: &[u8], offset: u64, limits: &Limits) -> Result<Metadata, FormatError> {
        let json = Json::parse(bytes, limits.json_depth)
            .map_err(|error| FormatError::MetadataJson { offset, error })?;
        let root = Field::root(&json, Part::Metadata);
        if json.as_object().is_none() {
            return Err(root.wrong("an object"));
        }
        check_canonical(&root, bytes)?;
        // First, so that whoever has a file from the future is told so, and not what is strange about it.
        if let Some(requires) = root.find("requires")?
            && let Some(feature) = strings(&requires)?.into_iter().next()
        {
            return Err(FormatError::Requires { what: "the file".into(), feature });
        }
        let depth = limits.json_depth;
        let arrays = arrays(&root.get("arrays")?, limits)?;
        let rows = arrays.first().map_or(0, |array| array.rows);
        let sections = match root.find("sections")? {
            None => Vec::new(),
            Some(list) => sections(&list, rows, limits)?,
        };
        let sections_from_chunks = match root.find("sections_from_chunks")? {
            None => false,
            Some(field) => field.bool()?,
        };
        let user = match root.find("metadata")? {
            None => Json::Object(Vec::new()),
            Some(field) => object(&field, depth.saturating_sub(1))?,
        };
        Ok(Metadata { arrays, sections, sections_from_chunks, user, json })
    }
}

/// One value has one text, so that rewriting a file gives the same bytes and no two readers differ.
fn check_canonical(root: &Field<'_>, bytes: &[u8]) -> Result<(), FormatError> {
    if !root.json.is_strict() {
        let problem = "has NaN, an infinity or half of a surrogate pair, which must be escaped";
        return Err(root.problem(problem.into()));
    }
    if has_duplicate_keys(root.json) {
        return Err(root.problem("has an object with a key that occurs twice, which must be escaped".into()));
    }
    let text = root.json.to_string_styled(Style::Canonical);
    if text.as_bytes() != bytes {
        let differs = text.bytes().zip(bytes).position(|(expected, found)| expected != *found);
        let at = differs.unwrap_or(bytes.len().min(text.len()));
        let problem = format!(
            "is not in canonical form from byte {at} of the metadata on: keys are sorted, and there are neither spaces \
             nor escapes that are not needed"
        );
        return Err(root.problem(problem));
    }
    Ok(())
}

fn has_duplicate_keys(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().any(has_duplicate_keys),
        Json::Object(pairs) => {
            let mut keys: Vec<&Text> = pairs.iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            keys.windows(2).any(|pair| pair[0] == pair[1])
                || pairs.iter().any(|(_, value)| has_duplicate_keys(value))
        }
        _ => false,
    }
}

fn arrays(list: &Field<'_>, limits: &Limits) -> Result<Vec<ArrayIndex>, FormatError> {
    let items = list.items_within("array count", limits.arrays, "arrays")?;
    let mut arrays = Vec::with_capacity(items.len());
    let mut names = BTreeSet::new();
    // An entry of the index has 16 bits for the position of its array.
    if items.len() > usize::from(u16::MAX) {
        return Err(list.wrong("at most 65535 arrays"));
    }
    for item in items {
        let array = array(&item, limits)?;
        if !names.insert(array.name.clone()) {
            return Err(item.get("name")?.wrong("a name that no other array has"));
        }
        arrays.push(array);
    }
    Ok(arrays)
}

fn array(item: &Field<'_>, limits: &Limits) -> Result<ArrayIndex, FormatError> {
    let name = item.get("name")?;
    check_name(name.str()?).map_err(|expected| name.wrong(expected))?;
    let dtype = ArrayDType::from_name(item.get("dtype")?.str()?).unwrap_or(ArrayDType::Unknown);

    let shape = item.get("shape")?;
    let mut lens = shape.items()?;
    let Some(rows) = lens.next() else { return Err(shape.wrong("the number of rows at least")) };
    if lens.len() > MAX_INNER_RANK {
        return Err(shape.wrong(&format!("at most {} lengths", 1 + MAX_INNER_RANK)));
    }
    let inner = lens.map(|len| len.u32()).collect::<Result<Vec<u32>, FormatError>>()?;
    let dim = row_dim(dtype, &inner).map_err(|problem| shape.problem(problem))?;
    let row_count = rows.u64()?;
    check_rows(dim, row_count).map_err(|expected| rows.wrong(expected))?;

    let codec = item.get("codec")?;
    let codec_name = codec.get("name")?;
    check_name(codec_name.str()?).map_err(|expected| codec_name.wrong(expected))?;
    // No level of nesting is below 0: the text was parsed within the limit.
    let depth = limits.json_depth.saturating_sub(LEVELS_AROUND);
    let members = codec.json.as_object().unwrap_or_default();
    let options = members.iter().filter(|(key, _)| *key != "name").map(|(key, value)| {
        let value = unescape(value, depth.saturating_sub(1)).map_err(|problem| codec.problem(problem))?;
        Ok((key.clone(), value))
    });
    let codec_options = Json::Object(options.collect::<Result<_, FormatError>>()?);

    let provenance = item.find("provenance")?.map(|field| object(&field, depth)).transpose()?;
    let requires = item.find("requires")?.map(|field| strings(&field)).transpose()?.unwrap_or_default();
    Ok(ArrayIndex {
        name: name.str()?.to_string(),
        dtype,
        rows: row_count,
        dim,
        inner,
        codec: codec_name.str()?.into(),
        codec_options,
        provenance,
        requires,
        chunks: Vec::new(),
    })
}

fn sections(list: &Field<'_>, rows: u64, limits: &Limits) -> Result<Vec<Section>, FormatError> {
    let items = list.items_within("section count", limits.sections, "sections")?;
    let mut sections = Vec::with_capacity(items.len());
    let mut previous_end = 0;
    for item in items {
        let range = item.get("rows")?;
        let mut bounds = range.items()?;
        let (Some(start), Some(end), 0) = (bounds.next(), bounds.next(), bounds.len()) else {
            return Err(range.wrong("two row numbers"));
        };
        let (start_row, end_row) = (start.u64()?, end.u64()?);
        if start_row < previous_end {
            return Err(start.wrong("a row that no section before it has"));
        }
        if end_row < start_row || end_row > rows {
            return Err(end.wrong(&format!("a row from {start_row} to {rows}, the rows of the first array")));
        }
        previous_end = end_row;
        let metadata = item.get("metadata")?;
        let value = unescape(metadata.json, limits.json_depth.saturating_sub(LEVELS_AROUND));
        let value = value.map_err(|problem| metadata.problem(problem))?;
        sections.push(Section { rows: start_row..end_row, metadata: value });
    }
    Ok(sections)
}

/// An object of the user's, at most `depth` deep.
fn object(field: &Field<'_>, depth: usize) -> Result<Json, FormatError> {
    if field.json.as_object().is_none() {
        return Err(field.wrong("an object"));
    }
    let object = unescape(field.json, depth).map_err(|problem| field.problem(problem))?;
    // An escape may hold anything.
    if object.as_object().is_none() {
        return Err(field.problem(format!("is an escape of type {}, expected an object", object.kind())));
    }
    Ok(object)
}

fn strings(list: &Field<'_>) -> Result<Vec<String>, FormatError> {
    list.items()?.map(|item| Ok(item.str()?.to_string())).collect()
}

/// Whether something can be called this. The error says what is expected.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
        return Err("a name of 1 to 255 bytes without control characters");
    }
    Ok(())
}

/// Values in a row of this shape. The error says what is wrong with it, as a clause.
pub(super) fn row_dim(dtype: ArrayDType, inner: &[u32]) -> Result<u32, String> {
    if dtype == ArrayDType::Utf8 && !inner.is_empty() {
        return Err(format!("has {} lengths, an array of strings has one", 1 + inner.len()));
    }
    if inner.contains(&0) {
        return Ok(0);
    }
    // An unknown dtype has one byte at least.
    let size = dtype.values().map_or(1, |dtype| dtype.size() as u64);
    let row_len = inner.iter().try_fold(size, |len, next| len.checked_mul(u64::from(*next)));
    match row_len {
        Some(len) if len <= MAX_ROW_LEN => {
            Ok(u32::try_from(len / size).expect("fewer values than bytes in a row"))
        }
        _ => Err(format!("has rows of more than {MAX_ROW_LEN} bytes")),
    }
}

/// Whether an array can have so many rows of `dim` values. The error says what is expected.
pub(super) fn check_rows(dim: u32, rows: u64) -> Result<(), &'static str> {
    match dim {
        // There is nothing in the file that would pay for more.
        0 if rows > u64::from(u32::MAX) => Err("at most 4294967295 rows without values"),
        _ if rows > MAX_ARRAY_ROWS => Err("at most 281474976710656 rows"),
        _ => Ok(()),
    }
}

/// The text of the metadata of a file.
pub(super) fn text(contents: &Contents<'_>) -> String {
    let array = |(spec, rows): (&super::ArraySpec, &u64)| {
        let shape = core::iter::once(*rows).chain(spec.inner.iter().map(|len| u64::from(*len)));
        let mut codec = alloc::vec![(Text::from("name"), Json::from(spec.codec.as_str()))];
        let options = spec.codec_options.as_object().unwrap_or_default();
        codec.extend(options.iter().map(|(key, value)| (key.clone(), escape(value))));
        let mut fields = alloc::vec![
            ("codec", Json::Object(codec)),
            ("dtype", Json::from(spec.dtype.name())),
            ("name", Json::from(spec.name.as_str())),
        ];
        if let Some(provenance) = &spec.provenance {
            fields.push(("provenance", escape(provenance)));
        }
        fields.push(("shape", Json::Array(shape.map(Json::from).collect())));
        Json::object(fields)
    };
    let section = |section: &Section| {
        Json::object([
            ("metadata", escape(&section.metadata)),
            ("rows", Json::Array([section.rows.start, section.rows.end].map(Json::from).to_vec())),
        ])
    };
    let arrays = contents.arrays.iter().zip(contents.rows).map(array).collect();
    let mut fields = alloc::vec![("arrays", Json::Array(arrays))];
    if contents.metadata.as_object().is_some_and(|pairs| !pairs.is_empty()) {
        fields.push(("metadata", escape(contents.metadata)));
    }
    if !contents.sections.is_empty() {
        fields.push(("sections", Json::Array(contents.sections.iter().map(section).collect())));
    }
    if contents.sections_from_chunks {
        fields.push(("sections_from_chunks", Json::Bool(true)));
    }
    Json::object(fields).to_string_styled(Style::Canonical)
}

/// Why these cannot be the options of a codec, if they cannot: they stand beside its name, as themselves.
pub(super) fn codec_options_problem(options: &Json) -> Option<&'static str> {
    let Some(pairs) = options.as_object() else { return Some("that are not an object") };
    if pairs.iter().any(|(key, _)| *key == "name") {
        return Some("with a key \"name\", which is that of the codec");
    }
    // A lone `$json` is no escape where it has company.
    let alone = matches!(pairs, [(key, _)] if *key == "$json");
    (!alone && !are_plain_keys(pairs)).then_some("with a key that is no valid Unicode or occurs twice")
}
