//! Which rows the sections are about, and what one key of their metadata says of them.

use std::collections::BTreeMap;
use std::ops::Range;

use cvc::format::json::Style;
use cvc::{Error, Json, Reader};

use crate::wrong;

/// Sections, and one key of their metadata.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SectionMap {
    /// Whether they are sections of the file, rather than chunks that have metadata.
    pub of_file: bool,
    /// Rows of the first array, which they speak of.
    pub rows: u64,
    /// The key, if any section has metadata with keys.
    pub key: Option<String>,
    /// The values that the key has, those of most rows first, with the rows of each.
    pub values: Vec<(String, u64)>,
    /// The sections, in file order.
    pub sections: Vec<SectionReport>,
}

/// One section.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SectionReport {
    /// Its rows.
    pub rows: Range<u64>,
    /// What the key says of them: a position in [`SectionMap::values`].
    pub value: Option<usize>,
    /// All that was said of them.
    pub metadata: Json,
}

/// `None` if there is nothing to map.
pub(crate) fn measure(reader: &Reader, by: Option<&str>) -> Result<Option<SectionMap>, Error> {
    let of_file = !reader.sections().is_empty();
    let sections = if of_file { reader.sections().to_vec() } else { reader.chunk_sections() };
    if sections.is_empty() {
        return match by {
            None => Ok(None),
            Some(by) => Err(wrong("by", by, "the file has no sections and no chunk metadata to map")),
        };
    }
    // How many sections have each key, in the order in which keys come up.
    let mut keys: Vec<(&str, usize)> = Vec::new();
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    for section in &sections {
        for key in section.metadata.as_object().into_iter().flatten().filter_map(|(key, _)| key.as_str()) {
            let at = *place.entry(key).or_insert_with(|| {
                keys.push((key, 0));
                keys.len() - 1
            });
            keys[at].1 += 1;
        }
    }
    let key = match by {
        Some(by) if !place.contains_key(by) => {
            const SHOWN: usize = 10;
            let mut names: Vec<String> = keys.iter().take(SHOWN).map(|(key, _)| format!("{key:?}")).collect();
            if keys.len() > SHOWN {
                names.push(format!("{} more", keys.len() - SHOWN));
            }
            return Err(wrong("by", by, format!("no section has this key; there are {}", names.join(", "))));
        }
        Some(by) => Some(by.to_owned()),
        None => {
            let most = keys.iter().map(|(_, count)| *count).max();
            keys.iter().find(|(_, count)| Some(*count) == most).map(|(key, _)| (*key).to_owned())
        }
    };

    let mut rows_of: BTreeMap<String, u64> = BTreeMap::new();
    let mut said = Vec::with_capacity(sections.len());
    for section in &sections {
        let value = key.as_deref().and_then(|key| section.metadata.get(key)).map(shown);
        if let Some(value) = &value {
            let rows = rows_of.entry(value.clone()).or_default();
            *rows = rows.saturating_add(section.rows.end - section.rows.start);
        }
        said.push(value);
    }
    let mut values: Vec<(String, u64)> = rows_of.into_iter().collect();
    // Stable, so that of equals the first by name comes first.
    values.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    let number: BTreeMap<&str, usize> =
        values.iter().enumerate().map(|(number, (value, _))| (value.as_str(), number)).collect();
    let reports = sections.iter().zip(&said).map(|(section, value)| SectionReport {
        rows: section.rows.clone(),
        value: value.as_ref().map(|value| number[value.as_str()]),
        metadata: section.metadata.clone(),
    });
    let sections = reports.collect();
    let rows = reader.arrays().next().map_or(0, |array| array.rows());
    Ok(Some(SectionMap { of_file, rows, key, values, sections }))
}

/// A value of metadata as people read it: strings without their quotes.
pub(crate) fn shown(json: &Json) -> String {
    match json {
        Json::String(text) => text.to_string(),
        other => other.to_string_styled(Style::Compact),
    }
}
