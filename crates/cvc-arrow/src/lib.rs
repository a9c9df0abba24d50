//! Rows of `.cvc` files as Arrow's record batches, and the parts that engines divide them into.
//!
//! [`Table`] is some arrays of a file that have equally many rows, as columns:
//!
//! ```text
//! shape of a row   Arrow
//! ()               the primitive
//! (d,)             FixedSizeList<primitive>[d]
//! (a, b, ...)      the same over a * b * ..., with the field metadata of arrow.fixed_shape_tensor
//! strings          LargeUtf8
//! ```
//!
//! [`Table::read`] gives rows, [`Table::divide`] says which rows are best read together. [`values`] is what an array of Arrow and
//! rows have in common, for those who go the other way.
//!
//! ```
//! use std::sync::Arc;
//! use cvc::{DType, Layout, ReadOptions, Reader, RowSlice, WriteOptions, Writer};
//! use cvc_arrow::Table;
//!
//! let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 2, "fp16")?;
//! let mut writer = Writer::in_memory(options)?;
//! writer.write_vectors(RowSlice::new(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?)?;
//! let file = writer.finish_bytes()?;
//!
//! let table = Table::new(Arc::new(Reader::new(Box::new(file), ReadOptions::default())?), None, None)?;
//! for part in table.divide(&[0..3], 64 << 20)? {
//!     let batch = table.read(&part.ranges)?;
//!     assert_eq!((batch.num_rows(), batch.schema()), (3, table.schema().clone()));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod divide;
mod table;
pub mod values;

pub use divide::{Part, divide};
pub use table::{Error, Table, windows};
