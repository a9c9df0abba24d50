//! Values of a parsed JSON text, each with the way to it, so that what is wrong can be named.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use crate::error::FormatError;
use crate::json::{Json, Style};

/// Whose JSON it is: who is blamed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The header of a CVCF file.
    Header,
    /// The metadata of a native file.
    Metadata,
}

/// A value and the way to it, which is only spelled out when something is wrong.
pub(crate) struct Field<'a> {
    pub(crate) json: &'a Json,
    path: Path<'a>,
    part: Part,
}

enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    /// Keys come from the file, so what a terminal would act on is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => write!(f, "{}", key.escape_debug()),
            Path::Key(parent, key) => write!(f, "{parent}.{}", key.escape_debug()),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'a> Field<'a> {
    /// All of it.
    pub(crate) fn root(json: &'a Json, part: Part) -> Field<'a> {
        Field { json, path: Path::Root, part }
    }

    /// Member `key` of this object.
    pub(crate) fn get<'b>(&'b self, key: &'b str) -> Result<Field<'b>, FormatError> {
        match self.json.get(key) {
            None if self.json.as_object().is_none() => Err(self.wrong("an object")),
            found => self.member(key, found),
        }
    }

    /// Member `key` of this object, which was looked up already.
    pub(crate) fn member<'b>(
        &'b self,
        key: &'b str,
        found: Option<&'b Json>,
    ) -> Result<Field<'b>, FormatError> {
        let path = Path::Key(&self.path, key);
        match found {
            Some(json) => Ok(Field { json, path, part: self.part }),
            None => Err(self.part.error(path.to_string(), "is missing".into())),
        }
    }

    /// Member `key` of this object, if it has one.
    pub(crate) fn find<'b>(&'b self, key: &'b str) -> Result<Option<Field<'b>>, FormatError> {
        match self.json.get(key) {
            None if self.json.as_object().is_none() => Err(self.wrong("an object")),
            None => Ok(None),
            found => self.member(key, found).map(Some),
        }
    }

    /// The items of this list, which may have no more than `limit`, which is field `field` of the limits.
    pub(crate) fn items_within(
        &self,
        what: &'static str,
        limit: usize,
        field: &'static str,
    ) -> Result<impl ExactSizeIterator<Item = Field<'_>>, FormatError> {
        let items = self.items()?;
        if items.len() > limit {
            return Err(FormatError::Limit { what, value: items.len() as u64, limit: limit as u64, field });
        }
        Ok(items)
    }

    /// The items of this list.
    pub(crate) fn items(&self) -> Result<impl ExactSizeIterator<Item = Field<'_>>, FormatError> {
        let items = self.json.as_array().ok_or_else(|| self.wrong("a list"))?;
        let item = |(index, json)| Field { json, path: Path::Index(&self.path, index), part: self.part };
        Ok(items.iter().enumerate().map(item))
    }

    pub(crate) fn u64(&self) -> Result<u64, FormatError> {
        self.json.as_u64().ok_or_else(|| self.wrong("a whole number of 0 or more"))
    }

    pub(crate) fn u32(&self) -> Result<u32, FormatError> {
        u32::try_from(self.u64()?).map_err(|_| self.wrong("a whole number below 2^32"))
    }

    pub(crate) fn f64(&self) -> Result<f64, FormatError> {
        self.json.as_f64().ok_or_else(|| self.wrong("a number"))
    }

    pub(crate) fn bool(&self) -> Result<bool, FormatError> {
        self.json.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(crate) fn str(&self) -> Result<&'a str, FormatError> {
        self.json.as_str().ok_or_else(|| self.wrong("a string of valid Unicode"))
    }

    /// That this value is not `expected`.
    pub(crate) fn wrong(&self, expected: &str) -> FormatError {
        let found = match self.json {
            Json::Object(_) | Json::Array(_) => format!("of type {}", self.json.kind()),
            scalar => {
                let text = scalar.to_string_styled(Style::Compact);
                match text.char_indices().nth(60) {
                    Some((cut, _)) => format!("{}...", &text[..cut]),
                    None => text,
                }
            }
        };
        self.problem(format!("is {found}, expected {expected}"))
    }

    /// That this value has a problem, said as a clause.
    pub(crate) fn problem(&self, problem: String) -> FormatError {
        let path = match self.path {
            Path::Root => "top level".to_string(),
            _ => self.path.to_string(),
        };
        self.part.error(path, problem)
    }
}

impl Part {
    fn error(self, path: String, problem: String) -> FormatError {
        match self {
            Part::Header => FormatError::Header { path, problem },
            Part::Metadata => FormatError::Metadata { path, problem },
        }
    }
}
