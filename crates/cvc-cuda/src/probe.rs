//! Which cards there are, found out without a panic.
//!
//! cudarc panics where the driver's library is missing, and where it lacks a call. So the library is looked for first, then
//! each call that this crate makes, then the version of the driver; only then is it used.
#![expect(unsafe_code, reason = "it looks into the driver's library before it is used")]

use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::{result, sys};

use crate::error::{self, NEEDED_VERSION, Unavailable};

/// A card.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Card {
    /// Its number, from 0.
    pub index: usize,
    /// What the driver calls it.
    pub name: String,
    /// Its compute capability: `(9, 0)`.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: u64,
    /// What the driver supports: `12.4`.
    pub cuda: String,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        write!(f, "{} (compute {major}.{minor}, {} MiB)", self.name, self.memory >> 20)
    }
}

/// The least compute capability that the kernels are compiled for.
const LEAST_CAPABILITY: (i32, i32) = (7, 0);

impl Card {
    /// Whether the kernels run on it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn usable(&self) -> Result<(), String> {
        if self.capability >= LEAST_CAPABILITY {
            return Ok(());
        }
        let (major, minor) = self.capability;
        Err(format!("compute capability {major}.{minor}, and 7.0 or newer is needed; choose another device"))
    }
}

/// The calls that this crate makes, by the names they have in the library.
pub(crate) const CALLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemAllocAsync",
    "cuMemFree_v2",
    "cuMemFreeAsync",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuLaunchKernel",
];

/// The cards of this machine.
///
/// # Errors
/// There are none that can be used, and what to do.
pub fn cards() -> Result<Vec<Card>, Unavailable> {
    let version = ready()?;
    let what = |what| move |error| Unavailable::driver(what, error);
    let count = result::device::get_count().map_err(what("count the cards"))?;
    let card = |index: i32| {
        let device = result::device::get(index)?;
        let attribute = |attribute| {
            // SAFETY: `device` was given out by the driver a line above.
            unsafe { result::device::get_attribute(device, attribute) }
        };
        let capability = (
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(device) }? as u64;
        let name = result::device::get_name(device)?;
        let index = usize::try_from(index).expect("counted from 0");
        Ok(Card { index, name, capability, memory, cuda: error::version(version) })
    };
    let cards: Vec<Card> = (0..count).map(card).collect::<Result<_, _>>().map_err(what("describe a card"))?;
    if cards.is_empty() { Err(Unavailable::NoDevice) } else { Ok(cards) }
}

/// The version of CUDA that the driver supports, as it counts: 12040 is 12.4. `None` where there is no driver.
pub fn driver_version() -> Option<i32> {
    library().ok()?;
    let mut version = 0;
    // SAFETY: the call is there, which `library` has checked, and `version` is a place for its result.
    let status = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    status.result().ok().map(|()| version)
}

/// Finds the driver and starts it; every path to a driver call comes through here first. Gives its version.
pub(crate) fn ready() -> Result<i32, Unavailable> {
    library()?;
    let Some(version) = driver_version() else {
        let problem = "it does not say; install the driver again".into();
        return Err(Unavailable::Driver { what: "tell its version", problem });
    };
    if version < NEEDED_VERSION {
        return Err(Unavailable::OldDriver { found: version });
    }
    result::init().map_err(|error| Unavailable::driver("start", error))?;
    Ok(version)
}

/// Whether the library is there and has every call of [`CALLS`], found out once.
fn library() -> Result<(), Unavailable> {
    static FOUND: OnceLock<Result<(), Unavailable>> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

fn look() -> Result<(), Unavailable> {
    // SAFETY: loading the driver's library runs only its own initialisers, as every program that uses CUDA does.
    if !unsafe { sys::is_culib_present() } {
        return Err(Unavailable::NoLibrary);
    }
    // SAFETY: the same library again, which was there a line above.
    let library = unsafe { sys::culib() };
    for call in CALLS {
        // SAFETY: the symbol is not called, only looked for.
        let found = unsafe { library.get::<unsafe extern "C" fn()>(call.as_bytes()) };
        if found.is_err() {
            return Err(Unavailable::MissingCall { call });
        }
    }
    Ok(())
}
