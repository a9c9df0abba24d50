//! The native half of the Python package `cvc`: parses what Python hands over, calls the facade, converts what comes
//! back. Everything that can be said in Python without costing time is in `python/cvc`.
//!
//! The interpreter is let go of in all work, and every object can be used from many threads.
#![deny(unsafe_code)]

mod array;
mod arrow;
mod codecs;
mod convert;
mod device;
mod dlpack;
mod dtype;
mod errors;
mod file;
mod fork;
mod input;
mod interpreter;
mod json;
mod key;
mod manifest;
mod memory;
mod numpy;
mod pieces;
mod remote;
mod rows;
mod s4;
mod search;
mod source;
mod store;
mod writer;

use pyo3::prelude::*;

/// Whatever `cvc/__init__.py` is made of.
#[pymodule(gil_used = false)]
fn _cvc(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::remember_home();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<file::File>()?;
    module.add_class::<array::Array>()?;
    module.add_class::<rows::Selection>()?;
    module.add_class::<writer::Writer>()?;
    module.add_class::<store::StoreFolder>()?;
    module.add_class::<store::Changes>()?;
    module.add_class::<store::Snapshot>()?;
    module.add_class::<store::StoredArray>()?;
    module.add_function(wrap_pyfunction!(file::open, module)?)?;
    module.add_function(wrap_pyfunction!(array::devices, module)?)?;
    module.add_function(wrap_pyfunction!(manifest::manifest, module)?)?;
    module.add_function(wrap_pyfunction!(remote::shown, module)?)?;
    module.add_function(wrap_pyfunction!(search::recall, module)?)?;
    module.add_function(wrap_pyfunction!(store::unpack_store, module)?)?;
    module.add_function(wrap_pyfunction!(store::package_info, module)?)?;
    module.add_function(wrap_pyfunction!(convert::convert_file, module)?)?;
    module.add_function(wrap_pyfunction!(convert::convert_stream, module)?)?;
    module.add_class::<convert::Table>()?;
    module.add_class::<pieces::Pieces>()?;
    module.add_class::<pieces::Span>()?;
    module.add_class::<device::DeviceArray>()?;
    module.add_class::<codecs::Zstd>()?;
    module.add_class::<codecs::ZstdDict>()?;
    module.add_class::<codecs::Gzip>()?;
    module.add_function(wrap_pyfunction!(codecs::crc32c, module)?)?;
    module.add_class::<s4::Body>()?;
    module.add_class::<s4::Index>()?;
    module.add_function(wrap_pyfunction!(s4::open_s4, module)?)?;
    module.add_function(wrap_pyfunction!(s4::pack_s4, module)?)?;
    Ok(())
}
