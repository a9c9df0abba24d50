//! Lists of files in the order of their rows, each with its identity: what `cvc.write_manifest` of the Python package writes.
//!
//! ```json
//! {"format": "cvc-manifest", "version": 1, "files": [{"uri": "0.cvc", "identity": "cvc:...", "rows": 1000}]}
//! ```

use std::path::Path;

use cvc::Json;
use cvc::codec::SourceError;
use cvc::io::{FileSource, ReadAt};
use thiserror::Error;

use crate::error::RemoteError;
use crate::options::RemoteOptions;
use crate::place::shown;
use crate::remote::Remote;

/// A manifest of some other length is none: ten million files have room.
const MOST: u64 = 1 << 30;
/// What later versions say is skipped, so it may be deep.
const DEPTH: usize = 64;

/// A file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path or URL; those that the manifest gives from where it lies are joined to that.
    pub uri: String,
    /// What [`Reader::identity`](cvc::Reader::identity) of it must say.
    pub identity: String,
}

/// Why a list of files could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not what was written.
    #[error("{place} is no manifest of `cvc.write_manifest`: {problem}")]
    Damaged {
        /// Its path or URL.
        place: String,
        /// What is missing or wrong.
        problem: String,
    },
    /// A later version wrote it.
    #[error("{place} is a manifest of version {version}, and this version of cvc knows 1")]
    Version {
        /// Its path or URL.
        place: String,
        /// What it says.
        version: u64,
    },
    /// It is a file of this machine, which cannot be read.
    #[error(transparent)]
    Local(#[from] cvc::Error),
    /// It is somewhere else, and cannot be had.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It is somewhere else, and broke off.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Whether a path or URL is that of a manifest: by its name, which ends in `.json`.
pub fn is_manifest(place: &str) -> bool {
    place.ends_with(".json")
}

/// The files of the manifest at a path or URL.
///
/// # Errors
/// There is none, it cannot be read, or it is not one of a version that is known.
pub fn read_manifest(place: &str, options: &RemoteOptions) -> Result<Vec<Listed>, ManifestError> {
    let source: Box<dyn ReadAt> = match place.contains("://") {
        true => Box::new(Remote::open(place, options)?),
        false => Box::new(FileSource::open(place.as_ref())?),
    };
    parse_manifest(place, &read_whole(&*source, place)?)
}

/// All bytes of a manifest, whatever it is read from.
///
/// # Errors
/// It is longer than any, or the source fails.
pub fn read_whole(source: &dyn ReadAt, place: &str) -> Result<Vec<u8>, ManifestError> {
    let too_long = || damaged(place, format!("it has {} bytes, and none has more than {MOST}", source.len()));
    let len = usize::try_from(source.len().min(MOST)).map_err(|_| too_long())?;
    if source.len() > MOST {
        return Err(too_long());
    }
    let mut text = vec![0; len];
    source.read_at(0, &mut text)?;
    Ok(text)
}

/// The files that the text of a manifest lists, which lies at `place`.
///
/// # Errors
/// It is not one of a version that is known.
pub fn parse_manifest(place: &str, text: &[u8]) -> Result<Vec<Listed>, ManifestError> {
    let said = Json::parse(text, DEPTH).map_err(|error| damaged(place, error.to_string()))?;
    let format = said.get("format").and_then(Json::as_str);
    if format != Some("cvc-manifest") {
        return Err(damaged(place, "its format is not \"cvc-manifest\"".to_owned()));
    }
    match said.get("version").and_then(Json::as_u64) {
        Some(1) => {}
        Some(version) => return Err(ManifestError::Version { place: shown(place), version }),
        None => return Err(damaged(place, "its version is no whole number".to_owned())),
    }
    let files = said.get("files").and_then(Json::as_array);
    let files = files.ok_or_else(|| damaged(place, "it has no list of files".to_owned()))?;
    let listed = files.iter().enumerate().map(|(number, file)| {
        let text = |key| file.get(key).and_then(Json::as_str);
        match (text("uri"), text("identity")) {
            (Some(uri), Some(identity)) => {
                Ok(Listed { uri: joined(place, uri), identity: identity.to_owned() })
            }
            _ => Err(damaged(place, format!("file {number} has no `uri` or no `identity`"))),
        }
    });
    listed.collect()
}

fn damaged(place: &str, problem: String) -> ManifestError {
    ManifestError::Damaged { place: shown(place), problem }
}

/// Where `uri` is, which a manifest at `place` names.
fn joined(place: &str, uri: &str) -> String {
    if uri.contains("://") || Path::new(uri).is_absolute() {
        return uri.to_owned();
    }
    if place.contains("://") {
        let folder = place.rsplit_once('/').map_or("", |(folder, _)| folder);
        return format!("{folder}/{uri}");
    }
    let folder = Path::new(place).parent().unwrap_or(Path::new(""));
    folder.join(uri).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_where_the_manifest_lies() {
        let text = br#"{"format": "cvc-manifest", "version": 1, "files": [{"uri": "a/0.cvc", "identity": "x", "rows": 3},
            {"uri": "s3://b/1.cvc", "identity": "y"}]}"#;
        for (place, first) in [
            ("s3://bucket/all.json", "s3://bucket/a/0.cvc"),
            ("/data/all.json", "/data/a/0.cvc"),
            ("all.json", "a/0.cvc"),
        ] {
            let listed = parse_manifest(place, text).unwrap();
            assert_eq!(listed[0], Listed { uri: first.to_owned(), identity: "x".to_owned() });
            assert_eq!((listed.len(), &*listed[1].uri), (2, "s3://b/1.cvc"));
            assert!(is_manifest(place));
        }
    }

    #[test]
    fn anything_else_is_refused_by_name_and_without_secrets() {
        let place = "https://me:hush@host/all.json";
        for (text, problem) in [
            ("{", "all.json is no manifest"),
            ("{}", "its format"),
            (r#"{"format": "cvc-manifest"}"#, "its version is"),
            (
                r#"{"format": "cvc-manifest", "version": 2, "more": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}"#,
                "of version 2",
            ),
            (r#"{"format": "cvc-manifest", "version": 2}"#, "of version 2"),
            (r#"{"format": "cvc-manifest", "version": 1, "files": {}}"#, "no list"),
            (r#"{"format": "cvc-manifest", "version": 1, "files": [{"uri": "a"}]}"#, "file 0 has no"),
            (r#"{"format": "cvc-manifest", "version": 1, "files": [7]}"#, "file 0 has no"),
        ] {
            let error = parse_manifest(place, text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("all.json") && !error.contains("hush"),
                "{error}"
            );
        }
        let error = read_manifest("/nowhere/all.json", &RemoteOptions::default()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/all.json"), "{error}");
        let error =
            read_manifest("ftp://me:hush@host/all.json?key=hush", &RemoteOptions::default()).unwrap_err();
        assert!(error.to_string().contains("ftp://") && !error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn a_manifest_is_read_from_a_url() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.json");
        std::fs::write(&path, r#"{"format": "cvc-manifest", "version": 1, "files": []}"#).unwrap();
        let url = format!("file://{}", path.display());
        assert_eq!(read_manifest(&url, &RemoteOptions::default()).unwrap(), []);
        assert_eq!(read_manifest(path.to_str().unwrap(), &RemoteOptions::default()).unwrap(), []);
    }
}
