//! The element types that an array can have.

use core::fmt;

/// The type of one value of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Two binary32: a complex number.
    C64,
    /// Two binary64: a complex number.
    C128,
    /// One byte: 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, in the order of the enum.
    pub const ALL: [DType; 15] = [
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::Bf16,
        DType::F32,
        DType::F64,
        DType::C64,
        DType::C128,
        DType::Bool,
    ];

    /// Bytes per value.
    pub const fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::Bf16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 | DType::C64 => 8,
            DType::C128 => 16,
        }
    }

    /// Bytes of the numbers that a value consists of: two to a complex one. What byte order is about.
    pub const fn component_size(self) -> usize {
        match self {
            DType::C64 | DType::C128 => self.size() / 2,
            _ => self.size(),
        }
    }

    /// Whether values are (real) floating point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::Bf16 | DType::F32 | DType::F64)
    }

    /// The short name: `f32`, `u8`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::C64 => "c64",
            DType::C128 => "c128",
            DType::Bool => "bool",
        }
    }

    /// The dtype of this short name, if there is one.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an array holds: values of one dtype, or strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArrayDType {
    /// Rows of values, all of the same size.
    Values(DType),
    /// Strings in UTF-8, one a row.
    Utf8,
    /// Something that this version does not know. The array cannot be read, the others of its file can.
    Unknown,
}

impl ArrayDType {
    /// The short name: that of the dtype, `utf8`, or `unknown`, which no file can name.
    pub const fn name(self) -> &'static str {
        match self {
            ArrayDType::Values(dtype) => dtype.name(),
            ArrayDType::Utf8 => "utf8",
            ArrayDType::Unknown => "unknown",
        }
    }

    /// What has this short name, if anything does.
    pub fn from_name(name: &str) -> Option<ArrayDType> {
        if name == "utf8" { Some(ArrayDType::Utf8) } else { DType::from_name(name).map(ArrayDType::Values) }
    }

    /// The dtype of the values, unless they are strings or unknown.
    pub const fn values(self) -> Option<DType> {
        match self {
            ArrayDType::Values(dtype) => Some(dtype),
            ArrayDType::Utf8 | ArrayDType::Unknown => None,
        }
    }
}

impl fmt::Display for ArrayDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<DType> for ArrayDType {
    fn from(dtype: DType) -> Self {
        ArrayDType::Values(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::from_name("float32"), None);
        assert_eq!(ArrayDType::from_name("utf8"), Some(ArrayDType::Utf8));
        assert_eq!(ArrayDType::from_name("c64"), Some(DType::C64.into()));
        assert_eq!(ArrayDType::from_name("unknown"), None);
    }
}
