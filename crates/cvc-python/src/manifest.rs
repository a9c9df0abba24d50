//! Lists of files: `cvc.write_manifest` writes them, `cvc.plan` reads them by this.

use cvc_remote::manifest::{Listed, ManifestError, parse_manifest, read_whole};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::errors::{of_class, raised};
use crate::file::{Source, locate};
use crate::fork::at_home;
use crate::remote::raised_by_remote;

/// The files of the manifest at a path or URL: of each its path or URL and its identity.
#[pyfunction]
#[pyo3(signature = (place, *, storage_options=None))]
pub(crate) fn manifest(
    place: &Bound<'_, PyString>,
    storage_options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Vec<(String, String)>> {
    let (py, name) = (place.py(), place.to_str()?.to_owned());
    let source = match locate(place, storage_options)?.source {
        Source::Path(path) => {
            let opened = cvc::io::FileSource::open(&path).map_err(|error| raised(py, error))?;
            Box::new(opened)
        }
        Source::Other(source) => source,
    };
    let listed =
        py.detach(|| at_home(|| read_whole(&*source, &name).and_then(|text| parse_manifest(&name, &text))));
    let listed = listed.map_err(|error| match error {
        ManifestError::Remote(error) => raised_by_remote(py, &error),
        ManifestError::Source(error) => raised(py, error.into()),
        ManifestError::Local(error) => raised(py, error),
        error @ ManifestError::Version { .. } => of_class(py, "UnsupportedError", error.to_string()),
        error => of_class(py, "FormatError", error.to_string()),
    })?;
    Ok(listed.into_iter().map(|Listed { uri, identity }| (uri, identity)).collect())
}
