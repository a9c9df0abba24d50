//! What a test holds the stand-in by.
#![expect(unsafe_code, reason = "it loads a shared library")]

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use libloading::Library;

/// The library, loaded into this process under the name that the driver's library has: whoever asks for that afterwards
/// gets this one.
#[derive(Debug)]
pub struct Standin {
    library: Library,
}

/// What the stand-in counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Allocations of device memory that are not freed, and their bytes.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Allocations of pinned memory that are not freed.
    pub pinned: u64,
    /// Kernels that ran.
    pub launches: u64,
}

impl Standin {
    /// Where cargo puts the library: beside the programs of tests.
    ///
    /// # Errors
    /// It is not there.
    pub fn path() -> io::Result<PathBuf> {
        let program = env::current_exe()?;
        let name = format!("{}cvc_cuda_standin{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        // Tests lie in `deps`, programs and examples above and beside it.
        let folders =
            program.ancestors().skip(1).take(2).flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
        let candidates: Vec<PathBuf> = folders.map(|folder| folder.join(&name)).collect();
        candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
            io::Error::other(format!("none of {candidates:?} is there: cargo did not build the stand-in"))
        })
    }

    /// Loads it. Every later search for the driver's library in this process finds this one.
    ///
    /// # Errors
    /// It cannot be found or loaded.
    pub fn load() -> io::Result<Standin> {
        let path = Standin::path()?;
        // SAFETY: loading runs nothing; the library has no initialisers.
        let library = unsafe { Library::new(&path) }.map_err(io::Error::other)?;
        Ok(Standin { library })
    }

    /// Makes a folder in which the library goes by the name of the driver's, for `LD_LIBRARY_PATH` of other programs.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn folder(within: &Path) -> io::Result<PathBuf> {
        Standin::folder_of(&fs::read(Standin::path()?)?, within)
    }

    /// The same without one of the driver's calls, as an old driver lacks it.
    ///
    /// # Errors
    /// The folder cannot be written.
    ///
    /// # Panics
    /// There is no such call to begin with.
    pub fn folder_without(call: &str, within: &Path) -> io::Result<PathBuf> {
        let mut library = fs::read(Standin::path()?)?;
        let name = [&[0], call.as_bytes(), &[0]].concat();
        let places: Vec<usize> =
            (0..library.len() - name.len()).filter(|at| library[*at..].starts_with(&name)).collect();
        assert!(!places.is_empty(), "there is no {call}");
        // The name in the table of symbols; whoever looks for it no longer finds it.
        places.into_iter().for_each(|at| library[at + 1] = b'x');
        Standin::folder_of(&library, within)
    }

    fn folder_of(library: &[u8], within: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(within)?;
        fs::write(
            within.join(format!("{}cuda{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)),
            library,
        )?;
        Ok(within.to_owned())
    }

    /// The driver's calls that there are.
    pub fn calls() -> impl Iterator<Item = &'static str> {
        crate::exports::CALLS.iter().copied().filter(|call| call.starts_with("cu"))
    }

    /// Says what it is to pretend from here on, as `CVC_STANDIN` does.
    ///
    /// # Panics
    /// There is no such setting.
    pub fn set(&self, settings: &str) {
        let text = CString::new(settings).expect("no NUL in it");
        // SAFETY: the library has this function with this signature: exports.rs.
        let set =
            unsafe { self.library.get::<extern "C" fn(*const std::ffi::c_char) -> u32>(b"cvcStandinSet") };
        let text: &CStr = &text;
        assert_eq!(set.expect("it is exported")(text.as_ptr()), 0, "no such setting: {settings}");
    }

    /// What it counts.
    pub fn counts(&self) -> Counts {
        let mut counts = [0; 4];
        // SAFETY: the library has this function with this signature: exports.rs.
        let get = unsafe { self.library.get::<extern "C" fn(*mut [u64; 4]) -> u32>(b"cvcStandinCounts") };
        get.expect("it is exported")(&raw mut counts);
        let [allocations, bytes, pinned, launches] = counts;
        Counts { allocations, bytes, pinned, launches }
    }
}
