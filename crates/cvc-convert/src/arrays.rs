//! Files of arrays that are read anywhere: matrices that users have, and whatever else lends rows by their numbers.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cvc::input::{self, InputError, Matrix};
use cvc::io::atomic_file::AtomicFile;
use cvc::output::npy::npy_header;
use cvc::output::npz::Npz;
use cvc::{AlignedBytes, DType};

use crate::error::Error;
use crate::from_cvc::{Plan, left_out};
use crate::table::{Batch, Column, Holds, Input, Piece, Said, batch_rows, committed, little_endian, row_len};
use crate::{Converted, Options, Progress};

/// The name of the one array of a file that names none.
pub(crate) const VECTORS: &str = "vectors";

/// An array of which any rows can be read.
pub(crate) trait Lends {
    fn rows(&self) -> u64;

    /// These rows, in native byte order.
    fn read(&self, rows: Range<u64>, into: &mut AlignedBytes) -> Result<(), Error>;
}

impl Lends for Matrix {
    fn rows(&self) -> u64 {
        self.rows()
    }

    fn read(&self, rows: Range<u64>, into: &mut AlignedBytes) -> Result<(), Error> {
        let mut scratch = AlignedBytes::new();
        let bytes = Matrix::read(self, rows, &mut scratch).map_err(cvc::Error::from)?;
        into.resize(bytes.len()).copy_from_slice(bytes);
        Ok(())
    }
}

/// Arrays as batches: those with as many rows as the main one together, then each of the others.
pub(crate) struct Arrays {
    columns: Vec<Column>,
    lenders: Vec<Box<dyn Lends>>,
    apart: std::vec::IntoIter<(Column, Box<dyn Lends>)>,
    rows: u64,
    next: u64,
    said: Said,
}

impl Arrays {
    /// The rows of the main array are those of the file. It is one with as many rows as the file says, or the one named `vectors`, or
    /// that with the most bytes.
    pub(crate) fn new(
        path: &Path,
        arrays: Vec<(Column, Box<dyn Lends>)>,
        options: &Options,
        said: Said,
    ) -> Result<Arrays, Error> {
        let mut arrays = arrays;
        if let Some(only) = &options.columns {
            if let Some(name) =
                only.iter().find(|name| arrays.iter().all(|(column, _)| column.name != **name))
            {
                let names: Vec<String> =
                    arrays.iter().map(|(column, _)| format!("{:?}", column.name)).collect();
                let problem =
                    format!("there is no such array in {}; it has {}", path.display(), names.join(", "));
                return Err(Error::argument("columns", name, problem));
            }
            arrays.retain(|(column, _)| only.contains(&column.name));
        }
        let len =
            |(column, lender): &&(Column, Box<dyn Lends>)| lender.rows().saturating_mul(column.row_len());
        let noted = arrays.iter().find(|(_, lender)| Some(lender.rows()) == said.rows);
        let named = arrays.iter().find(|(column, _)| column.name == VECTORS);
        let Some((_, main)) = noted.or(named).or_else(|| arrays.iter().rev().max_by_key(len)) else {
            return Err(Error::damaged(
                path,
                "it holds no arrays, and a .cvc file needs one; write it again",
            ));
        };
        let rows = main.rows();
        let (together, apart): (Vec<_>, Vec<_>) =
            arrays.into_iter().partition(|(_, lender)| lender.rows() == rows);
        let (columns, lenders) = together.into_iter().unzip();
        Ok(Arrays { columns, lenders, apart: apart.into_iter(), rows, next: 0, said })
    }
}

impl Input for Arrays {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn said(&self) -> &Said {
        &self.said
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        if self.next == self.rows {
            return Ok(None);
        }
        let rows = self.next..self.rows.min(self.next.saturating_add(batch_rows(row_len(&self.columns))));
        self.next = rows.end;
        let count = usize::try_from(rows.end - rows.start).expect("a batch fits in memory");
        let pieces = self.lenders.iter().map(|lender| piece(&**lender, rows.clone()));
        Ok(Some(Batch { rows: count, pieces: pieces.collect::<Result<_, _>>()? }))
    }

    fn has_array(&self, name: &str) -> bool {
        let apart = self.apart.as_slice().iter().map(|(column, _)| column);
        self.columns.iter().chain(apart).any(|column| column.name == name)
    }

    fn next_apart(&mut self) -> Result<Option<(Column, usize, Piece)>, Error> {
        let Some((column, lender)) = self.apart.next() else { return Ok(None) };
        let rows = lender.rows();
        let count = usize::try_from(rows).map_err(|_| crate::table::too_large(&column))?;
        Ok(Some((column, count, piece(&*lender, 0..rows)?)))
    }
}

fn piece(lender: &dyn Lends, rows: Range<u64>) -> Result<Piece, Error> {
    let mut bytes = AlignedBytes::new();
    lender.read(rows, &mut bytes)?;
    Ok(Piece::Values(bytes))
}

/// `.npy`, `.npz` and the kin of `.fvecs`. An archive is unpacked beside the output.
pub(crate) fn open_matrices(source: &Path, target: &Path, options: &Options) -> Result<Arrays, Error> {
    let temp_dir = Some(parent(target));
    let open = |member: Option<String>| {
        let matrix = Matrix::open(source, &input::Options { member, temp_dir: temp_dir.clone() })?;
        let name = matrix.origin().member.clone().unwrap_or_else(|| VECTORS.to_owned());
        let column = Column::values(&name, matrix.dtype(), matrix.inner().to_vec());
        Ok::<_, InputError>((column, Box::new(matrix) as Box<dyn Lends>))
    };
    let arrays = match open(None) {
        Err(InputError::ChooseMember { names, .. }) if !names.is_empty() => {
            let wanted = |name: &&String| options.columns.as_ref().is_none_or(|only| only.contains(name));
            // Those that are wanted, so that one that cannot be read can be left out.
            let chosen: Vec<String> = names.iter().filter(wanted).cloned().collect();
            if let (Some(only), true) = (&options.columns, chosen.is_empty()) {
                let problem = format!("there is no such array; the archive has {}", names.join(", "));
                return Err(Error::argument("columns", only.join(", "), problem));
            }
            chosen.into_iter().map(|name| open(Some(name))).collect::<Result<Vec<_>, _>>()
        }
        one => one.map(|one| vec![one]),
    };
    Arrays::new(source, arrays.map_err(cvc::Error::from)?, options, Said::default())
}

fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// A directory or a package of NumPack, by way of a store beside the output that goes away again.
#[cfg(feature = "numpack")]
pub(crate) fn open_numpack(source: &Path, target: &Path, options: &Options) -> Result<Arrays, Error> {
    let folder = parent(target);
    let temporary = tempfile::tempdir_in(&folder).map_err(Error::io(&folder, "cannot be written"))?;
    let store = cvc_store::Store::create(temporary.path().join("store"))?;
    let names = store.import_numpack(source, "raw")?;
    let kept = std::sync::Arc::new((store.snapshot(), store, temporary));
    let arrays = names.into_iter().map(|name| {
        let array = kept.0.array(&name)?;
        let shape = array.shape();
        let inner = shape[1..].iter().map(|len| u32::try_from(*len)).collect::<Result<Vec<u32>, _>>();
        let dtype = array.spec().dtype();
        let (Ok(inner), Some(dtype)) = (inner, dtype) else {
            return Err(Error::column(source, &name, "its rows cannot be held"));
        };
        let lent: Box<dyn Lends> = Box::new(Stored { array, _kept: kept.clone() });
        Ok((Column::values(&name, dtype, inner), lent))
    });
    let arrays = arrays.collect::<Result<Vec<_>, Error>>()?;
    Arrays::new(source, arrays, options, Said::default())
}

/// An array of a store.
#[cfg(feature = "numpack")]
struct Stored {
    array: cvc_store::StoredArray,
    /// What holds the rows.
    _kept: std::sync::Arc<(cvc_store::Snapshot, cvc_store::Store, tempfile::TempDir)>,
}

#[cfg(feature = "numpack")]
impl Lends for Stored {
    fn rows(&self) -> u64 {
        self.array.rows()
    }

    fn read(&self, rows: Range<u64>, into: &mut AlignedBytes) -> Result<(), Error> {
        let row_len = self.array.byte_len().checked_div(self.array.rows()).unwrap_or(0);
        let len = usize::try_from((rows.end - rows.start) * row_len).expect("a batch fits in memory");
        Ok(self.array.read_bytes(rows, into.resize(len))?)
    }
}

/// Where matrices go.
enum Sink {
    /// One array, behind its header or row by row behind its dimension.
    One(AtomicFile),
    Archive(Box<Npz<AtomicFile>>),
}

/// Writes `.npy`, `.npz` or the kin of `.fvecs`.
pub(crate) fn write_matrices(
    plan: &Plan,
    target: &Path,
    options: &Options,
    progress: &mut Progress<'_>,
) -> Result<Converted, Error> {
    let extension =
        target.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let archive = extension == "npz";
    if let ([_, another, ..], false) = (plan.columns.as_slice(), archive) {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let problem =
            format!("a .{extension} file holds one array; choose one with columns: {}", names.join(", "));
        return Err(Error::target(target, &another.name, problem));
    }
    // Before anything is written.
    let dtypes =
        plan.columns.iter().map(|column| check(column, target, &extension)).collect::<Result<Vec<_>, _>>()?;
    let file = AtomicFile::create(target, options.overwrite).map_err(Error::output)?;
    let mut sink = if archive { Sink::Archive(Box::new(Npz::new(file))) } else { Sink::One(file) };
    let all = plan.columns.iter().map(|column| plan.rows_of(column)).sum();
    let mut done = 0;
    progress(0, Some(all))?;
    for (column, dtype) in plan.columns.iter().zip(dtypes) {
        let rows = plan.rows_of(column);
        let Holds::Values(_, inner) = &column.holds else { unreachable!("checked above") };
        let shape: Vec<u64> = [rows].into_iter().chain(inner.iter().map(|len| u64::from(*len))).collect();
        let prefix = match (&mut sink, extension.as_str()) {
            (Sink::Archive(archive), _) => {
                archive.start(&column.name, dtype, &shape).map_err(Error::output)?;
                None
            }
            (Sink::One(file), "npy") => {
                file.write_all(&npy_header(dtype, &shape)).map_err(Error::output)?;
                None
            }
            _ => Some(i32::try_from(column.dim()).map_err(|_| crate::table::too_large(column))?),
        };
        let widened = Column::values(&column.name, dtype, inner.clone());
        let step = batch_rows(widened.row_len());
        let mut row = 0;
        while row < rows {
            let next = rows.min(row + step);
            let Piece::Values(mut bytes) = plan.read_array(&widened, row..next)? else {
                unreachable!("values")
            };
            little_endian(dtype, bytes.bytes_mut());
            let written = match (&mut sink, prefix) {
                (Sink::One(file), Some(dim)) => {
                    let row_len =
                        usize::try_from(widened.row_len()).map_err(|_| crate::table::too_large(column))?;
                    bytes.bytes().chunks_exact(row_len).try_for_each(|row| {
                        file.write_all(&dim.to_le_bytes())?;
                        file.write_all(row)
                    })
                }
                (Sink::One(file), None) => file.write_all(bytes.bytes()),
                (Sink::Archive(archive), _) => archive.write_all(bytes.bytes()),
            };
            written.map_err(Error::output)?;
            done += next - row;
            row = next;
            progress(done, Some(all))?;
        }
    }
    let file_len = committed(match sink {
        Sink::One(file) => file,
        Sink::Archive(archive) => archive.finish().map_err(Error::output)?,
    })?;
    let mut not_kept = plan.not_kept.clone();
    not_kept.extend(left_out(&plan.said, target));
    let arrays = plan.columns.iter().map(|column| column.name.clone()).collect();
    Ok(Converted { rows: plan.rows, arrays, sections: 0, file_len, not_kept })
}

/// The dtype that an array is written as.
fn check(column: &Column, target: &Path, extension: &str) -> Result<DType, Error> {
    let refuse = |problem: String| Err(Error::target(target, &column.name, problem));
    let Holds::Values(dtype, inner) = &column.holds else {
        return refuse(
            "it holds strings, which go into .parquet, .arrow, .csv; or leave it out with columns".into(),
        );
    };
    let wanted = match extension {
        "fvecs" => DType::F32,
        "bvecs" => DType::U8,
        "ivecs" => DType::I32,
        _ => return Ok(*dtype),
    };
    if inner.len() != 1 || inner[0] == 0 {
        return refuse(format!("its rows are not lists of values, which is what a .{extension} file holds"));
    }
    // Every half is a float.
    let widens = wanted == DType::F32 && matches!(dtype, DType::F16 | DType::Bf16);
    if *dtype != wanted && !widens {
        return refuse(format!("it holds {dtype}, and a .{extension} file {wanted}; write an .npy"));
    }
    Ok(wanted)
}
