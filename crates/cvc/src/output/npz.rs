//! `.npz` archives, as `numpy.savez` writes them: several named arrays in one file, nothing compressed.

use std::io::{self, Seek, Write};

use cvc_format::DType;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::output::npy::npy_header;

/// An archive in the making: an array is started, and its bytes (little-endian, in C order) are written before the next. The
/// same arrays give the same bytes: no time is noted.
pub struct Npz<W: Write + Seek>(ZipWriter<W>);

impl<W: Write + Seek> Npz<W> {
    /// Begins an archive at the start of `file`.
    pub fn new(file: W) -> Npz<W> {
        Npz(ZipWriter::new(file))
    }

    /// Begins an array. Nobody looks whether as many bytes follow as it needs.
    ///
    /// # Errors
    /// The file cannot be written, or has an array of that name.
    pub fn start(&mut self, name: &str, dtype: DType, shape: &[u64]) -> io::Result<()> {
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        self.0.start_file(format!("{name}.npy"), options)?;
        self.0.write_all(&npy_header(dtype, shape))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.0.finish()?)
    }
}

impl<W: Write + Seek> Write for Npz<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Seek> std::fmt::Debug for Npz<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Npz").finish_non_exhaustive()
    }
}

/// Writes an archive of arrays, each with its name, dtype, shape and bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write_npz(file: impl Write + Seek, arrays: &[(&str, DType, &[u64], &[u8])]) -> io::Result<()> {
    let mut archive = Npz::new(file);
    for (name, dtype, shape, bytes) in arrays {
        archive.start(name, *dtype, shape)?;
        archive.write_all(bytes)?;
    }
    archive.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBytes;
    use crate::input::{Matrix, Options};

    #[test]
    fn arrays_come_back_under_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let (rows, scores) = ([7i64, -1, 3, 9].map(i64::to_le_bytes), [0.5f32, 1.5].map(f32::to_le_bytes));
        let arrays: [(_, _, &[u64], &[u8]); 2] = [
            ("indices", DType::I64, &[2, 2], rows.as_flattened()),
            ("scores", DType::F32, &[2, 1], scores.as_flattened()),
        ];
        write_npz(std::fs::File::create(&path).unwrap(), &arrays).unwrap();
        for (name, dtype, shape, bytes) in arrays {
            let options = Options { member: Some(name.into()), temp_dir: None };
            let matrix = Matrix::open(&path, &options).unwrap();
            assert_eq!((matrix.dtype(), matrix.rows(), u64::from(matrix.dim())), (dtype, shape[0], shape[1]));
            let mut scratch = AlignedBytes::new();
            let read = matrix.read(0..matrix.rows(), &mut scratch).unwrap();
            if cfg!(target_endian = "little") {
                assert_eq!(read, bytes);
            }
        }
        let again = folder.path().join("b.npz");
        write_npz(std::fs::File::create(&again).unwrap(), &arrays).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(again).unwrap());
    }
}
