//! The driver calls that cudarc makes for us, by the names it looks for, and no others: a call that is missing here is one
//! that the backend must not make.
//!
//! Pointers come from the caller, which keeps the driver's rules about them; so does the real library trust them.
#![expect(unsafe_code, reason = "a C interface is made of pointers")]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::driver::status::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NOT_INITIALIZED, SUCCESS, UNSUPPORTED_PTX_VERSION,
};
use crate::driver::{Driver, Host, NAMES, Settings, Status};

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// A context's handle is its device's number and this.
const CONTEXT: usize = 0x100;

/// What memory holds before anything is written.
const POISON: u8 = 0xcd;

thread_local! {
    /// The current context of this thread, 0 if there is none.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

struct Locked(MutexGuard<'static, Option<Driver>>);

impl Locked {
    fn driver(&mut self) -> &mut Driver {
        self.0.get_or_insert_with(|| {
            let text = std::env::var("CVC_STANDIN").unwrap_or_default();
            let settings =
                Settings::parse(&text).unwrap_or_else(|problem| panic!("CVC_STANDIN={text}: {problem}"));
            Driver::new(settings, HOST)
        })
    }
}

fn lock() -> Locked {
    Locked(DRIVER.lock().unwrap_or_else(PoisonError::into_inner))
}

const HOST: Host = Host {
    read: |from, into| {
        // SAFETY: whoever asked for the copy promised `len` readable bytes there until it is done.
        let bytes = unsafe { core::slice::from_raw_parts(from as *const u8, into.len()) };
        into.copy_from_slice(bytes);
    },
    write: |to, from| {
        // SAFETY: whoever asked for the copy promised `len` writable bytes there until it is done.
        let bytes = unsafe { core::slice::from_raw_parts_mut(to as *mut u8, from.len()) };
        bytes.copy_from_slice(from);
    },
};

fn number(status: Status) -> u32 {
    status.err().unwrap_or(SUCCESS)
}

/// Runs a call that needs no context.
fn call(work: impl FnOnce(&mut Driver) -> Status) -> u32 {
    let mut locked = lock();
    let driver = locked.driver();
    if !driver.initialized {
        return NOT_INITIALIZED;
    }
    number(work(driver))
}

/// Runs a call that needs a current context, with its device.
fn in_context(work: impl FnOnce(&mut Driver, i32) -> Status) -> u32 {
    match i32::try_from(CURRENT.get()).unwrap_or(0) - i32::try_from(CONTEXT).unwrap_or(0) {
        device if device >= 0 => call(|driver| work(driver, device)),
        _ => INVALID_CONTEXT,
    }
}

/// Stores a result where the caller wants it.
fn give<T>(into: *mut T, value: T) {
    // SAFETY: the caller gave a place for a result of this call.
    unsafe { into.write(value) };
}

macro_rules! exports {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => {
        /// The calls that there are.
        pub(crate) const CALLS: &[&str] = &[$(stringify!($name)),*];
        $(
            // SAFETY: no other library of a program that loads this one has a symbol of this name, or it is the one
            // that this one stands for.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::allow_attributes_without_reason, missing_docs, clippy::not_unsafe_ptr_arg_deref)]
            pub(crate) extern "C" fn $name($($arg: $type),*) -> u32 $body
        )*
    };
}

exports! {
    cuDriverGetVersion(version: *mut c_int) {
        give(version, lock().driver().settings.version);
        SUCCESS
    }
    cuInit(_flags: c_uint) {
        let mut locked = lock();
        let driver = locked.driver();
        driver.initialized = driver.settings.init == SUCCESS;
        driver.settings.init
    }
    cuGetErrorName(error: u32, into: *mut *const c_char) {
        match NAMES.iter().find(|(number, ..)| *number == error) {
            Some((_, name, _)) => { give(into, name.as_ptr()); SUCCESS }
            None => INVALID_VALUE,
        }
    }
    cuGetErrorString(error: u32, into: *mut *const c_char) {
        match NAMES.iter().find(|(number, ..)| *number == error) {
            Some((.., text)) => { give(into, text.as_ptr()); SUCCESS }
            None => INVALID_VALUE,
        }
    }
    cuDeviceGetCount(count: *mut c_int) {
        call(|driver| { give(count, driver.settings.devices); Ok(()) })
    }
    cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        call(|driver| match (0..driver.settings.devices).contains(&ordinal) {
            true => { give(device, ordinal); Ok(()) }
            false => Err(INVALID_DEVICE),
        })
    }
    cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) {
        call(|_| {
            let text = format!("stand-in {device}");
            for (at, byte) in text.bytes().chain([0]).enumerate().take(usize::try_from(len).unwrap_or(0)) {
                give(name.wrapping_add(at), byte.cast_signed());
            }
            Ok(())
        })
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        call(|driver| { give(bytes, usize::try_from(driver.settings.memory).unwrap_or(usize::MAX)); Ok(()) })
    }
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, _device: c_int) {
        // Compute capability, multiprocessors, memory pools: what is asked for, and no more.
        let known = match attribute { 16 => 4, 75 => 7, 76 => 0, 115 => 1, _ => return INVALID_VALUE };
        call(|_| { give(value, known); Ok(()) })
    }
    cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int) {
        call(|driver| match usize::try_from(device) {
            Ok(number) if device < driver.settings.devices => { give(context, CONTEXT + number); Ok(()) }
            _ => Err(INVALID_DEVICE),
        })
    }
    cuDevicePrimaryCtxRelease_v2(_device: c_int) { call(|_| Ok(())) }
    cuCtxSetCurrent(context: usize) { call(|_| { CURRENT.set(context); Ok(()) }) }
    cuCtxGetCurrent(context: *mut usize) { call(|_| { give(context, CURRENT.get()); Ok(()) }) }
    cuCtxSynchronize() { in_context(|driver, _| driver.run_all()) }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        in_context(|driver, _| {
            let (free_bytes, total_bytes) = driver.memory_info();
            give(free, usize::try_from(free_bytes).unwrap_or(usize::MAX));
            give(total, usize::try_from(total_bytes).unwrap_or(usize::MAX));
            Ok(())
        })
    }
    cuMemAlloc_v2(address: *mut u64, len: usize) {
        in_context(|driver, device| { give(address, driver.allocate(device, len, None)?); Ok(()) })
    }
    cuMemAllocAsync(address: *mut u64, len: usize, stream: u64) {
        in_context(|driver, device| { give(address, driver.allocate(device, len, Some(stream))?); Ok(()) })
    }
    cuMemFree_v2(address: u64) { in_context(|driver, _| driver.free(address, None)) }
    cuMemFreeAsync(address: u64, stream: u64) { in_context(|driver, _| driver.free(address, Some(stream))) }
    cuMemHostAlloc(pointer: *mut *mut c_void, len: usize, flags: c_uint) {
        in_context(|driver, _| {
            // Write-combined memory (4) is too slow to be read, and mapped memory is not used.
            if len == 0 || flags != 0 {
                return Err(INVALID_VALUE);
            }
            driver.check()?;
            let memory: &'static mut [u64] = vec![u64::from_ne_bytes([POISON; 8]); len.div_ceil(8)].leak();
            driver.pin(memory.as_ptr() as usize, memory.len() * 8);
            give(pointer, memory.as_mut_ptr().cast());
            Ok(())
        })
    }
    cuMemFreeHost(pointer: *mut c_void) {
        in_context(|driver, _| {
            let len = driver.unpin(pointer as usize)?;
            let memory = core::ptr::slice_from_raw_parts_mut(pointer.cast::<u64>(), len / 8);
            // SAFETY: `cuMemHostAlloc` leaked a boxed slice of this length here, and `unpin` gives it out once.
            drop(unsafe { Box::from_raw(memory) });
            Ok(())
        })
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, len: usize, stream: u64) {
        in_context(|driver, _| driver.copy_from_host(stream, from as usize, to, len))
    }
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, stream: u64) {
        in_context(|driver, _| driver.copy_to_host(stream, from, to as usize, len))
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: u64) {
        in_context(|driver, _| driver.copy_within(stream, from, to, len))
    }
    cuMemsetD8Async(to: u64, value: u8, len: usize, stream: u64) {
        in_context(|driver, _| driver.fill(stream, to, value, len))
    }
    cuStreamCreate(stream: *mut u64, _flags: c_uint) {
        in_context(|driver, device| { give(stream, driver.new_stream(device)); Ok(()) })
    }
    cuStreamDestroy_v2(stream: u64) { in_context(|driver, _| driver.destroy_stream(stream)) }
    cuStreamSynchronize(stream: u64) { in_context(|driver, _| driver.synchronize_stream(stream)) }
    cuStreamWaitEvent(stream: u64, event: u64, _flags: c_uint) {
        in_context(|driver, _| driver.wait(stream, event))
    }
    cuEventCreate(event: *mut u64, _flags: c_uint) {
        in_context(|driver, _| { give(event, driver.new_event()); Ok(()) })
    }
    cuEventDestroy_v2(event: u64) { in_context(|driver, _| driver.destroy_event(event)) }
    cuEventRecord(event: u64, stream: u64) { in_context(|driver, _| driver.record(event, stream)) }
    cuEventSynchronize(event: u64) { in_context(|driver, _| driver.synchronize_event(event)) }
    cuEventElapsedTime(milliseconds: *mut f32, start: u64, end: u64) {
        in_context(|driver, _| { give(milliseconds, driver.elapsed(start, end)?); Ok(()) })
    }
    cuModuleLoadData(module: *mut u64, image: *const c_char) {
        in_context(|driver, _| {
            // SAFETY: an image of PTX is a string that ends with NUL.
            let text = unsafe { CStr::from_ptr(image) };
            let text = text.to_str().map_err(|_| UNSUPPORTED_PTX_VERSION)?;
            give(module, driver.load(text)?);
            Ok(())
        })
    }
    cuModuleUnload(module: u64) { in_context(|driver, _| driver.unload(module)) }
    cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char) {
        in_context(|driver, _| {
            // SAFETY: a name is a string that ends with NUL.
            let name = unsafe { CStr::from_ptr(name) };
            give(function, driver.function(module, &name.to_string_lossy())?);
            Ok(())
        })
    }
    cuLaunchKernel(
        function: u64,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: u64,
        params: *const *const u8,
        _extra: *const c_void
    ) {
        in_context(|driver, _| {
            if shared != 0 {
                return Err(INVALID_VALUE);
            }
            let values = driver.params(function)?.iter().enumerate().map(|(at, len)| {
                // SAFETY: there is a pointer for each parameter that the kernel declares.
                let param = unsafe { params.wrapping_add(at).read() };
                // SAFETY: it points to a value of the size that the kernel declares.
                unsafe { core::slice::from_raw_parts(param, *len) }.to_vec()
            });
            let values = values.collect();
            driver.launch(stream, function, [grid_x, grid_y, grid_z], [block_x, block_y, block_z], values)
        })
    }

    // For tests: what the stand-in is to pretend from here on, and what it counts.

    cvcStandinSet(settings: *const c_char) {
        // SAFETY: settings are a string that ends with NUL.
        let text = unsafe { CStr::from_ptr(settings) };
        let Ok(settings) = Settings::parse(&text.to_string_lossy()) else { return INVALID_VALUE };
        let mut locked = lock();
        let driver = locked.driver();
        // Launches are counted from here.
        let fault_at = settings.fault_at.map(|launch| driver.counts()[3] + launch);
        driver.settings = Settings { fault_at, ..settings };
        SUCCESS
    }
    cvcStandinCounts(into: *mut [u64; 4]) {
        give(into, lock().driver().counts());
        SUCCESS
    }
}
