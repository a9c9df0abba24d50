//! `.cvc` files as tables of DataFusion.
//!
//! A [`CvcTable`] is one file or many, here or behind URLs, whose arrays are its columns. Of a query it reads the arrays that are
//! named and the rows up to its limit; partitions end where blocks do.
//!
//! ```
//! use std::sync::Arc;
//! use cvc_datafusion::{CvcTable, Options};
//! use datafusion::prelude::SessionContext;
//! # use cvc::{DType, Layout, RowSlice, WriteOptions, Writer};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("embeddings.cvc");
//! # let path = path.to_str().unwrap();
//! # let mut writer = Writer::create(path, WriteOptions::new(Layout::Native).vectors(DType::F32, 2, "fp16")?)?;
//! # writer.write_vectors(RowSlice::new(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?)?;
//! # writer.finish()?;
//!
//! let context = SessionContext::new();
//! let table = CvcTable::open(&[path], &Options::default())?;
//! context.register_table("embeddings", Arc::new(table))?;
//! let rows = context.sql("SELECT vectors FROM embeddings LIMIT 2").await?.count().await?;
//! assert_eq!(rows, 2);
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! paths, URLs, manifests ─▶ open ─▶ Table of cvc-arrow ─▶ divide ─▶ CvcTable
//! CvcTable ─▶ scan: columns, limit ─▶ CvcExec ─▶ Table::read ─▶ bridge ─▶ record batches
//! ```
//!
//! # Features
//!
//! `python` makes the module `cvc_datafusion`, whose `Table` DataFusion's Python package takes as it is.

mod bridge;
mod error;
mod exec;
#[cfg(feature = "python")]
mod python;
mod table;

pub use error::Error;
pub use exec::CvcExec;
pub use table::{CvcTable, Options};
