//! Dtypes by their names in NumPy.

use cvc::DType;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::numpy::Numpy;

/// The name of a dtype in NumPy; `bfloat16` is one of the package ml_dtypes.
pub(crate) const fn numpy_name(dtype: DType) -> &'static str {
    match dtype {
        DType::I8 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U8 => "uint8",
        DType::U16 => "uint16",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
        DType::F16 => "float16",
        DType::Bf16 => "bfloat16",
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::C64 => "complex64",
        DType::C128 => "complex128",
        // Those that have the same name in both worlds.
        other => other.name(),
    }
}

fn by_name(name: &str) -> Option<DType> {
    let of_numpy = DType::ALL.into_iter().find(|dtype| numpy_name(*dtype) == name);
    of_numpy.or_else(|| DType::from_name(name))
}

/// The dtype of values that the buffer protocol describes so, in native byte order. `None` for all others.
pub(crate) fn of_format((format, len): (&[u8], usize)) -> Option<DType> {
    let signed = [DType::I8, DType::I16, DType::I32, DType::I64];
    let unsigned = [DType::U8, DType::U16, DType::U32, DType::U64];
    let of = match format {
        b"f" => DType::F32,
        b"d" => DType::F64,
        b"e" => DType::F16,
        b"Zf" => DType::C64,
        b"Zd" => DType::C128,
        b"?" => DType::Bool,
        b"b" | b"h" | b"i" | b"l" | b"q" => signed.into_iter().find(|of| of.size() == len)?,
        b"B" | b"H" | b"I" | b"L" | b"Q" => unsigned.into_iter().find(|of| of.size() == len)?,
        _ => return None,
    };
    (of.size() == len).then_some(of)
}

/// The dtype that `object` stands for: a name (`float16`, `bf16`), or whatever `numpy.dtype` takes.
pub(crate) fn parse(object: &Bound<'_, PyAny>) -> PyResult<DType> {
    if let Ok(name) = object.extract::<&str>()
        && let Some(dtype) = by_name(name)
    {
        return Ok(dtype);
    }
    let py = object.py();
    // A dtype of torch calls itself `torch.float16`.
    let said = object.str()?;
    if let Some(dtype) = said.to_str()?.strip_prefix("torch.").and_then(by_name) {
        return Ok(dtype);
    }
    of_numpy(&Numpy::get(py)?.dtype.bind(py).call1((object,))?)
}

/// The dtype of values of this `numpy.dtype`, of any byte order.
pub(crate) fn of_numpy(dtype: &Bound<'_, PyAny>) -> PyResult<DType> {
    let name: String = dtype.getattr("name")?.extract()?;
    by_name(&name).ok_or_else(|| {
        let known: Vec<&str> = DType::ALL.into_iter().map(numpy_name).collect();
        PyTypeError::new_err(format!(
            "values of dtype {name} cannot be stored: convert them to one of {}, or to strings",
            known.join(", ")
        ))
    })
}

/// The `numpy.dtype`.
///
/// # Errors
/// It is bfloat16, and ml_dtypes is not installed.
pub(crate) fn to_numpy(py: Python<'_>, dtype: DType) -> PyResult<Bound<'_, PyAny>> {
    let numpy = Numpy::get(py)?;
    if dtype != DType::Bf16 {
        let known = numpy.dtypes.get_or_try_init(py, || {
            let all = DType::ALL.into_iter().filter(|of| *of != DType::Bf16);
            all.map(|of| Ok((of, numpy.dtype.bind(py).call1((numpy_name(of),))?.unbind())))
                .collect::<PyResult<Vec<_>>>()
        })?;
        let found = known.iter().find(|(of, _)| *of == dtype).expect("all are there but one");
        return Ok(found.1.bind(py).clone());
    }
    let ml_dtypes = py.import("ml_dtypes").map_err(|_| {
        PyTypeError::new_err(
            "NumPy has no bfloat16 of its own: install ml_dtypes, or ask for dtype=\"float32\", which holds every value",
        )
    })?;
    numpy.dtype.bind(py).call1((ml_dtypes.getattr("bfloat16")?,))
}
