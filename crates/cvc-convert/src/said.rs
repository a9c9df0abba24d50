//! What is said beside columns, as JSON: in a `.cvc` file what the columns of a table were, in other files what they have no
//! place of their own for.
//!
//! ```text
//! in the metadata of a .cvc file       "cvc.table": [{"name": "id"}, {"name": "source", "label": "utf8"}, ...]
//! in key-value metadata of a table     "cvc": {"labels": ["source"], "metadata": {...}, "provenance": {...}}
//! in that of a file of arrays          "cvc": {"rows": 2000, "sections": [[0, 48, {...}], ...], ...}
//! ```
//!
//! Metadata that is text stands beside these as it is. Labels are named, not numbered by rows: a table that was sorted or
//! filtered since is still read right.

use std::path::Path;

use cvc::format::json::Style;
use cvc::{DType, Json, Limits, Section};

use crate::error::Error;
use crate::table::{Column, Form, Holds, LabelType, Said};

/// The key in the metadata of a `.cvc` file.
pub(crate) const TABLE: &str = "cvc.table";
/// The key in other files.
pub(crate) const KEY: &str = "cvc";

/// The columns as a `.cvc` file lists them; nothing if its arrays say it all.
pub(crate) fn table(columns: &[Column]) -> Option<Json> {
    let plain = columns.iter().all(|column| !column.is_label() && column.form == Form::default());
    (!plain).then(|| Json::Array(columns.iter().map(entry).collect()))
}

fn entry(column: &Column) -> Json {
    let Form { kind, nullable, parts } = &column.form;
    let mut pairs = vec![("name", Json::from(column.name.as_str()))];
    if let Holds::Label(label) = &column.holds {
        let name = match label {
            LabelType::String => "utf8",
            LabelType::Values(dtype) => dtype.name(),
        };
        pairs.push(("label", Json::from(name)));
    }
    if let Some(kind) = kind {
        pairs.push(("kind", Json::from(kind.as_str())));
    }
    if *nullable {
        pairs.push(("nullable", Json::from(true)));
    }
    if !parts.is_empty() {
        pairs.push(("parts", Json::Array(parts.iter().map(|part| Json::from(part.as_str())).collect())));
    }
    Json::object(pairs)
}

/// What a `.cvc` file lists of its columns. Whatever is not understood is passed over: it tells only how things looked.
pub(crate) fn recorded(metadata: &Json) -> Vec<(String, Option<LabelType>, Form)> {
    let entries = metadata.get(TABLE).and_then(Json::as_array).unwrap_or_default();
    let columns = entries.iter().filter_map(|entry| {
        let name = entry.get("name")?.as_str()?.to_owned();
        let label = entry.get("label").and_then(Json::as_str).and_then(|label| match label {
            "utf8" => Some(LabelType::String),
            name => DType::from_name(name).map(LabelType::Values),
        });
        let parts = entry.get("parts").and_then(Json::as_array).unwrap_or_default();
        let form = Form {
            kind: entry.get("kind").and_then(Json::as_str).map(str::to_owned),
            nullable: entry.get("nullable").and_then(Json::as_bool).unwrap_or(false),
            parts: parts.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        };
        Some((name, label, form))
    });
    columns.collect()
}

/// Text for each key of the key-value metadata of another file.
pub(crate) fn to_pairs(said: &Said, labels: &[&str]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = Vec::new();
    for (key, value) in &said.metadata {
        match value.as_str() {
            Some(text) if key != KEY => pairs.push((key.clone(), text.to_owned())),
            _ => rest.push((key.as_str(), value.clone())),
        }
    }
    let mut ours = Vec::new();
    if !labels.is_empty() {
        ours.push(("labels", Json::Array(labels.iter().map(|label| Json::from(*label)).collect())));
    }
    ours.extend(said.rows.map(|rows| ("rows", Json::from(rows))));
    if !said.sections.is_empty() {
        let sections = said.sections.iter().map(|section| {
            let rows = [section.rows.start, section.rows.end - section.rows.start].map(Json::from);
            Json::Array(rows.into_iter().chain([section.metadata.clone()]).collect())
        });
        ours.push(("sections", Json::Array(sections.collect())));
    }
    if !rest.is_empty() {
        ours.push(("metadata", Json::object(rest)));
    }
    if !said.provenance.is_empty() {
        let provenance = said.provenance.iter().map(|(name, said)| (name.as_str(), said.clone()));
        ours.push(("provenance", Json::object(provenance)));
    }
    if !ours.is_empty() {
        pairs.push((KEY.to_owned(), Json::object(ours).to_string_styled(Style::Compact)));
    }
    pairs
}

/// What the key-value metadata of another file says, and which columns it calls labels.
///
/// # Errors
/// The text under our key is not what we write.
pub(crate) fn from_pairs<'a>(
    path: &Path,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(Said, Vec<String>), Error> {
    let (mut said, mut labels) = (Said::default(), Vec::new());
    for (key, text) in pairs {
        if key != KEY {
            said.metadata.push((key.to_owned(), Json::from(text)));
            continue;
        }
        let wrong = |problem: &str| {
            Error::damaged(path, format!("its metadata under {KEY:?} {problem}; remove or mend it"))
        };
        let ours = Json::parse(text.as_bytes(), Limits::default().json_depth)
            .map_err(|error| wrong(&format!("is no JSON: {error}")))?;
        let pairs_of = |key: &str| match ours.get(key) {
            None => Ok(Vec::new()),
            Some(Json::Object(pairs)) => {
                let pairs =
                    pairs.iter().map(|(name, value)| Some((name.as_str()?.to_owned(), value.clone())));
                pairs.collect::<Option<Vec<_>>>().ok_or_else(|| wrong("has a key that is not Unicode"))
            }
            Some(_) => Err(wrong(&format!("has {key:?} that is no object"))),
        };
        said.metadata.extend(pairs_of("metadata")?);
        said.provenance = pairs_of("provenance")?;
        let names = ours.get("labels").and_then(Json::as_array).unwrap_or_default();
        labels = names.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        said.rows = ours.get("rows").and_then(Json::as_u64);
        if let Some(sections) = ours.get("sections") {
            let sections = sections.as_array().ok_or_else(|| wrong("has sections that are no list"))?;
            let rows = said.rows.ok_or_else(|| wrong("has sections, and not of how many rows"))?;
            for section in sections {
                said.sections.push(section_of(section, rows).ok_or_else(|| {
                    wrong("has a section that is not [first row, number of rows, metadata] of as many rows as it says")
                })?);
            }
        }
    }
    Ok((said, labels))
}

fn section_of(section: &Json, rows: u64) -> Option<Section> {
    let [start, count, metadata] = section.as_array()? else { return None };
    let (start, count) = (start.as_u64()?, count.as_u64()?);
    let end = start.checked_add(count).filter(|end| *end <= rows)?;
    Some(Section::new(start..end, metadata.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back() {
        let said = Said {
            metadata: vec![("model".into(), Json::from("m")), ("year".into(), Json::from(2024u64))],
            sections: vec![Section::new(1..3, Json::object([("a", Json::from("x"))]))],
            provenance: vec![("vectors".into(), Json::object([("model", Json::from("m"))]))],
            rows: Some(7),
            ..Said::default()
        };
        let pairs = to_pairs(&said, &["source"]);
        assert_eq!(pairs[0], ("model".to_owned(), "m".to_owned()), "text stands as it is");
        let pairs = || pairs.iter().map(|(key, text)| (key.as_str(), text.as_str()));
        let (back, labels) = from_pairs(Path::new("f"), pairs()).unwrap();
        assert_eq!((back.metadata, back.provenance), (said.metadata, said.provenance));
        assert_eq!(labels, ["source"]);
        assert_eq!((back.sections[0].rows.clone(), back.rows), (1..3, Some(7)));
    }

    #[test]
    fn text_under_our_key_that_is_not_ours_is_an_error() {
        for text in [
            "",
            "x",
            "{\"metadata\": 1}",
            "{\"rows\": 2, \"sections\": [[1, 2, {}]]}",
            "{\"sections\": [[0, 1, {}]]}",
        ] {
            let error = from_pairs(Path::new("f"), [(KEY, text)].into_iter()).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{text}: {error}");
        }
    }
}
