//! A native file with the arrays of another: without some of them, under other names, with more.

use std::path::Path;

use cvc_format::Layout;

use crate::error::Error;
use crate::io::atomic_file::Overwrite;
use crate::reader::Reader;
use crate::repair::copy_array;
use crate::writer::{ArrayOptions, WriteOptions, Writer};

impl Reader {
    /// Begins a file at `path` with arrays of this native one, in this order: pairs of a name here and a name there.
    ///
    /// Encoded rows are copied as they are, metadata and sections stay. More arrays can be attached before the file is
    /// finished; further rows of those copied cannot be written.
    ///
    /// # Errors
    /// This file is not native or is damaged, has no such array, or the new one cannot be written.
    pub fn copy_arrays(
        &self,
        path: impl AsRef<Path>,
        arrays: &[(&str, &str)],
        overwrite: Overwrite,
    ) -> Result<Writer, Error> {
        if self.layout() != Layout::Native {
            let problem =
                "the arrays of a CVCF file lie in chunks that they share; convert it to layout native";
            return Err(Error::argument("layout", self.layout(), problem));
        }
        let mut options = WriteOptions::new(Layout::Native)
            .overwrite(overwrite)
            .sections_from_chunks(self.index().sections_from_chunks)
            .metadata(self.index().metadata.clone())?;
        for (name, renamed) in arrays {
            let array = self.array(name)?;
            array.check_known()?;
            options = options.with_array(ArrayOptions::like(array).named(renamed))?;
        }
        let mut writer = Writer::create(path, options)?;
        for (position, (name, _)) in arrays.iter().enumerate() {
            copy_array(&mut writer, position, self.array(name)?, &[])?;
        }
        for section in self.sections() {
            writer.put_section(section.rows.clone(), section.metadata.clone())?;
        }
        Ok(writer)
    }
}
