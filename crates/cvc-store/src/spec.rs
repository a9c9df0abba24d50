//! What an array is: dtype, shape of a row, codec.

use cvc::codec::find;
use cvc::format::{ArrayDType, native};
use cvc::{ArrayOptions, ArrayRows, DType, Json, NonFinite, RowSlice, Scope, Strings};

use crate::error::Error;
use crate::wire::{Problem, Wire, put_str, put_u8, put_u32};

/// What an array is. Made by [`ArraySpec::values`] or [`ArraySpec::strings`].
#[derive(Clone, Debug)]
pub struct ArraySpec {
    pub(crate) dtype: ArrayDType,
    pub(crate) inner: Vec<u32>,
    pub(crate) codec: String,
    pub(crate) block_rows: Option<u32>,
    pub(crate) scope: Scope,
    pub(crate) nonfinite: NonFinite,
    pub(crate) unique: bool,
    pub(crate) provenance: Option<Json>,
}

impl ArraySpec {
    /// Rows of values; `inner` is the shape of a row: `[dim]` for a matrix, `[]` for a list of scalars. `codec` is one of those
    /// of native files: `raw`, `lossless`, `fp16`, `int8`, `int4`, ...
    pub fn values(dtype: DType, inner: &[u32], codec: &str) -> ArraySpec {
        ArraySpec {
            dtype: dtype.into(),
            inner: inner.to_vec(),
            codec: codec.into(),
            block_rows: None,
            scope: Scope::default(),
            nonfinite: NonFinite::default(),
            unique: false,
            provenance: None,
        }
    }

    /// Strings, one a row; the codec is `raw`, `zstd` or `gzip`.
    pub fn strings(codec: &str) -> ArraySpec {
        ArraySpec { dtype: ArrayDType::Utf8, ..ArraySpec::values(DType::U8, &[], codec) }
    }

    /// An array of codec `raw` that such rows go to, as they are.
    pub fn of(rows: &ArrayRows<'_>) -> ArraySpec {
        match rows {
            ArrayRows::Values(rows) => {
                let dim = u32::try_from(rows.dim()).unwrap_or(u32::MAX);
                ArraySpec::values(rows.dtype(), &[dim], "raw")
            }
            ArrayRows::Strings { .. } => ArraySpec::strings("raw"),
        }
    }

    /// Which values share their parameters, for codecs that have any.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Self {
        ArraySpec { scope, ..self }
    }

    /// What to do with values that the codec cannot represent.
    #[must_use]
    pub fn nonfinite(self, nonfinite: NonFinite) -> Self {
        ArraySpec { nonfinite, ..self }
    }

    /// So many rows to a block.
    #[must_use]
    pub fn block_rows(self, rows: u32) -> Self {
        ArraySpec { block_rows: Some(rows), ..self }
    }

    /// No two rows may be the same: for ids. Only scalars of integers and strings can be ids.
    #[must_use]
    pub fn unique(self) -> Self {
        ArraySpec { unique: true, ..self }
    }

    /// Where the values come from: an object.
    #[must_use]
    pub fn provenance(self, provenance: Json) -> Self {
        ArraySpec { provenance: Some(provenance), ..self }
    }

    /// The dtype of the values; `None` for strings.
    pub fn dtype(&self) -> Option<DType> {
        self.dtype.values()
    }

    /// The name of the dtype: `f32`, `utf8`, ...
    pub fn dtype_name(&self) -> &'static str {
        self.dtype.name()
    }

    /// The shape of a row.
    pub fn inner(&self) -> &[u32] {
        &self.inner
    }

    /// The codec.
    pub fn codec(&self) -> &str {
        &self.codec
    }

    /// Whether no two rows may be the same.
    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// Values of a row.
    pub fn dim(&self) -> u32 {
        self.inner.iter().fold(1u32, |product, len| product.saturating_mul(*len))
    }

    /// Bytes of a row in memory; 0 for strings.
    pub(crate) fn row_len(&self) -> usize {
        self.dtype.values().map_or(0, |dtype| (self.dim() as usize).saturating_mul(dtype.size()))
    }

    /// Bytes that a row takes in a segment, if all take as many and some.
    pub(crate) fn stored_row_len(&self) -> Option<u64> {
        let len = self.row_len() as u64;
        (self.codec == "raw" && self.dtype.values().is_some() && len > 0).then_some(len)
    }

    /// The dtype that reading gives: that of the array, but for codecs that decode to another.
    pub(crate) fn read_dtype(&self) -> Option<DType> {
        let dtype = self.dtype.values()?;
        find(&self.codec).ok().map(|codec| codec.decoded_dtype(dtype))
    }

    /// Whether rows come back as they were.
    pub(crate) fn is_lossless(&self) -> bool {
        self.dtype == ArrayDType::Utf8 || find(&self.codec).is_ok_and(|codec| codec.is_lossless())
    }

    pub(crate) fn options(&self, name: &str) -> ArrayOptions {
        let options = match self.dtype {
            ArrayDType::Values(dtype) => ArrayOptions::values(name, dtype, &self.inner, &self.codec),
            _ => ArrayOptions::strings(name, &self.codec),
        };
        let options = options.scope(self.scope).nonfinite(self.nonfinite);
        let options = self.block_rows.map_or(options.clone(), |rows| options.block_rows(rows));
        match &self.provenance {
            Some(provenance) => options.provenance(provenance.clone()),
            None => options,
        }
    }

    /// Refuses what no array can be.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let options = cvc::WriteOptions::new(cvc::Layout::Native).with_array(self.options(ROWS_NAME));
        let options = options.map_err(Error::rows(name))?;
        let mut writer = cvc::Writer::in_memory(options).map_err(Error::rows(name))?;
        // Whether the codec takes such values shows when it gets some.
        if let (ArrayDType::Values(dtype), 1..=LARGE_ROW) = (self.dtype, self.row_len()) {
            let mut zeros = cvc::AlignedBytes::new();
            let row = RowSlice::from_bytes(dtype, 1, self.dim() as usize, zeros.resize(self.row_len()));
            writer
                .write_vectors(row.map_err(|error| Error::rows(name)(error.into()))?)
                .map_err(Error::rows(name))?;
            writer.finish_bytes().map_err(Error::rows(name))?;
        }
        if self.unique {
            use DType::{I8, I16, I32, I64, U8, U16, U32, U64};
            let integers = [I8, I16, I32, I64, U8, U16, U32, U64];
            let scalar = self.dtype == ArrayDType::Utf8
                || self.dim() == 1 && self.dtype.values().is_some_and(|dtype| integers.contains(&dtype));
            if !scalar || !self.is_lossless() {
                let problem = "ids are scalars of integers, or strings, of a codec that loses nothing";
                return Err(Error::argument("unique", name, problem));
            }
        }
        Ok(())
    }

    /// Refuses rows that are not of this array.
    pub(crate) fn check_rows(&self, name: &str, rows: &ArrayRows<'_>) -> Result<(), Error> {
        let fits = match rows {
            ArrayRows::Values(rows) => {
                self.dtype == ArrayDType::Values(rows.dtype()) && rows.dim() == self.dim() as usize
            }
            ArrayRows::Strings { .. } => self.dtype == ArrayDType::Utf8,
        };
        if fits {
            return Ok(());
        }
        let given = match rows {
            ArrayRows::Values(rows) => format!("rows of {} {} values", rows.dim(), rows.dtype()),
            ArrayRows::Strings { .. } => "strings".into(),
        };
        let held = match self.dtype {
            ArrayDType::Utf8 => "strings".to_owned(),
            dtype => format!("rows of {} {dtype} values", self.dim()),
        };
        Err(Error::argument("rows", given, format!("array {name:?} has {held}")))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let code = match self.dtype {
            ArrayDType::Values(dtype) => {
                DTYPES.iter().position(|known| *known == dtype).expect("all are listed")
            }
            _ => UTF8,
        };
        put_u8(out, u8::try_from(code).expect("a few"));
        put_u8(out, u8::try_from(self.inner.len()).expect("checked when it was made"));
        self.inner.iter().for_each(|len| put_u32(out, *len));
        put_str(out, &self.codec);
        let mut options: Vec<(&str, Json)> = Vec::new();
        if let Some(rows) = self.block_rows {
            options.push(("block_rows", Json::from(u64::from(rows))));
        }
        if self.nonfinite == NonFinite::Saturate {
            options.push(("nonfinite", Json::from("saturate")));
        }
        if let Some(provenance) = &self.provenance {
            options.push(("provenance", provenance.clone()));
        }
        if self.scope != Scope::default() {
            options.push(("scope", Json::from(self.scope.name())));
        }
        if self.unique {
            options.push(("unique", Json::from(true)));
        }
        put_str(out, &json_text(&Json::object(options)));
    }

    pub(crate) fn decode(wire: &mut Wire<'_>) -> Result<ArraySpec, Problem> {
        let code = usize::from(wire.u8()?);
        let dtype = match DTYPES.get(code) {
            Some(dtype) => ArrayDType::Values(*dtype),
            None if code == UTF8 => ArrayDType::Utf8,
            None => return Err(format!("dtype {code} is not known")),
        };
        let rank = usize::from(wire.u8()?);
        let inner = (0..rank).map(|_| wire.u32()).collect::<Result<_, _>>()?;
        let codec = wire.str()?.to_owned();
        let options = json_of(wire.str()?)?;
        let named = |key: &str| options.get(key).and_then(Json::as_str);
        let scope = match named("scope") {
            None | Some("row") => Scope::Row,
            Some("dim") => Scope::Dim,
            Some("chunk") => Scope::Chunk,
            Some(other) => return Err(format!("scope {other:?} is not known")),
        };
        let block_rows =
            options.get("block_rows").and_then(Json::as_u64).and_then(|rows| u32::try_from(rows).ok());
        let spec = ArraySpec {
            dtype,
            inner,
            codec,
            block_rows,
            scope,
            nonfinite: if named("nonfinite") == Some("saturate") {
                NonFinite::Saturate
            } else {
                NonFinite::Refuse
            },
            unique: options.get("unique").and_then(Json::as_bool) == Some(true),
            provenance: options.get("provenance").cloned(),
        };
        spec.check("a").map_err(|error| error.to_string())?;
        Ok(spec)
    }
}

/// Bytes of a row that is too large to be tried out.
const LARGE_ROW: usize = 1 << 20;

/// Any name that files accept.
const ROWS_NAME: &str = crate::segment::ROWS;

/// In the order of their numbers, which are kept for good.
const DTYPES: [DType; 15] = DType::ALL;
const UTF8: usize = DTYPES.len();

/// Nesting of JSON that is kept.
const JSON_DEPTH: usize = 64;

pub(crate) fn json_text(json: &Json) -> String {
    json.to_string_styled(cvc::format::json::Style::Compact)
}

pub(crate) fn json_of(text: &str) -> Result<Json, Problem> {
    Json::parse(text.as_bytes(), JSON_DEPTH).map_err(|error| error.to_string())
}

/// Refuses a name that an array cannot have.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let problem = if name.is_empty() || name.len() > native::MAX_NAME_LEN {
        "a name has 1 to 255 bytes"
    } else if name.chars().any(char::is_control) {
        "a name has no control characters"
    } else {
        return Ok(());
    };
    Err(Error::argument("array", format!("{name:?}"), problem))
}

/// Values as they stand in a store: little-endian.
pub(crate) fn little_endian(rows: &RowSlice<'_>) -> Vec<u8> {
    let mut bytes = vec![0; rows.bytes().len()];
    cvc::codec::ops::copy::copy(rows.bytes(), rows.dtype().component_size(), &mut bytes);
    bytes
}

/// Strings as they stand in the journal.
pub(crate) fn put_strings(strings: &Strings, out: &mut Vec<u8>) {
    let mut end = 0u32;
    for string in strings.iter() {
        end += u32::try_from(string.len()).expect("small changes are small");
        put_u32(out, end);
    }
    out.extend_from_slice(strings.text().as_bytes());
}

/// `rows` strings that stand in the journal.
pub(crate) fn strings_of(bytes: &[u8], rows: u64) -> Result<Strings, Problem> {
    let len = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(4)).ok_or("it ends too early")?;
    let mut wire = Wire(bytes);
    let ends = wire.take(len)?;
    let text = std::str::from_utf8(wire.0).map_err(|_| "a string is not UTF-8")?;
    let mut strings = Strings::default();
    let mut start = 0;
    for end in ends.as_chunks::<4>().0 {
        let end = u32::from_le_bytes(*end) as usize;
        strings.push(text.get(start..end).ok_or("the end of a string is not one")?);
        start = end;
    }
    if start != text.len() {
        return Err("there is text behind the last string".into());
    }
    Ok(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_as_it_was_written() {
        let provenance = Json::object([("model", Json::from("m"))]);
        for spec in [
            ArraySpec::values(DType::F32, &[10], "raw"),
            ArraySpec::values(DType::F32, &[3, 4], "int8").scope(Scope::Dim).nonfinite(NonFinite::Saturate),
            ArraySpec::values(DType::U64, &[], "zstd").unique().block_rows(512).provenance(provenance),
            ArraySpec::strings("zstd").unique(),
        ] {
            let mut out = Vec::new();
            spec.encode(&mut out);
            let read = ArraySpec::decode(&mut Wire(&out)).unwrap();
            assert_eq!(format!("{read:?}"), format!("{spec:?}"));
            for len in 0..out.len() {
                assert!(ArraySpec::decode(&mut Wire(&out[..len])).is_err());
            }
        }
        assert!(ArraySpec::values(DType::F32, &[2], "raw").unique().check("a").is_err());
        assert!(ArraySpec::values(DType::I32, &[2], "int8").check("a").is_err());
    }

    #[test]
    fn numbers_of_dtypes_are_kept_for_good() {
        let names: Vec<&str> = DTYPES.iter().map(|dtype| dtype.name()).collect();
        let expected = "i8 i16 i32 i64 u8 u16 u32 u64 f16 bf16 f32 f64 c64 c128 bool";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn strings_are_read_as_they_were_written() {
        let strings: Strings = ["a", "", "né"].into_iter().collect();
        let mut out = Vec::new();
        put_strings(&strings, &mut out);
        assert_eq!(strings_of(&out, 3).unwrap(), strings);
        assert!(strings_of(&out, 2).is_err() && strings_of(&out, 4).is_err());
    }
}
