//! The driver: contexts, streams, events, modules, and work that waits until somebody waits for it.
//!
//! Nothing that a stream is given runs when it is given. It runs when the host synchronises with that stream or with an
//! event on it, and then only what has to: the stream up to that point, and what other streams must have done before
//! it. So a staging buffer that is filled again too early is copied as it is then, and memory that is freed too early is gone.
//! With the setting `early` kernels run as soon as they are launched, after what their own stream was given before and no
//! more: then one that was launched on the wrong stream runs before the copy that it needed. A program that is right is
//! right with both.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write as _;
use std::time::Instant;

use crate::machine::{self, Launch};
use crate::memory::{Fault, Memory};
use crate::ptx::{self, Module};

/// The numbers of `CUresult`.
pub(crate) mod status {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const INVALID_VALUE: u32 = 1;
    pub(crate) const OUT_OF_MEMORY: u32 = 2;
    pub(crate) const NOT_INITIALIZED: u32 = 3;
    pub(crate) const STUB_LIBRARY: u32 = 34;
    pub(crate) const NO_DEVICE: u32 = 100;
    pub(crate) const INVALID_DEVICE: u32 = 101;
    pub(crate) const INVALID_CONTEXT: u32 = 201;
    pub(crate) const INVALID_PTX: u32 = 218;
    pub(crate) const UNSUPPORTED_PTX_VERSION: u32 = 222;
    pub(crate) const INVALID_HANDLE: u32 = 400;
    pub(crate) const NOT_FOUND: u32 = 500;
    pub(crate) const NOT_READY: u32 = 600;
    pub(crate) const ILLEGAL_ADDRESS: u32 = 700;
    pub(crate) const MISALIGNED_ADDRESS: u32 = 716;
}
use status::*;

/// Names as `cuGetErrorName` gives them, and what they mean.
pub(crate) const NAMES: &[(u32, &std::ffi::CStr, &std::ffi::CStr)] = &[
    (SUCCESS, c"CUDA_SUCCESS", c"no error"),
    (INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (NOT_INITIALIZED, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
    (STUB_LIBRARY, c"CUDA_ERROR_STUB_LIBRARY", c"CUDA driver is a stub library"),
    (NO_DEVICE, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    (INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (INVALID_CONTEXT, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    (INVALID_PTX, c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed"),
    (
        UNSUPPORTED_PTX_VERSION,
        c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        c"the provided PTX was compiled with an unsupported toolchain.",
    ),
    (INVALID_HANDLE, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    (NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    (NOT_READY, c"CUDA_ERROR_NOT_READY", c"device not ready"),
    (ILLEGAL_ADDRESS, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
    (MISALIGNED_ADDRESS, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"misaligned address"),
];

/// What the stand-in pretends to be, from the variable `CVC_STANDIN`: settings with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// As `cuDriverGetVersion` counts: 12000 is 12.0.
    pub(crate) version: i32,
    /// The newest PTX that is taken, times ten.
    pub(crate) ptx: u32,
    pub(crate) devices: i32,
    /// What `cuInit` answers.
    pub(crate) init: u32,
    /// Bytes of each device.
    pub(crate) memory: u64,
    /// Kernels run when they are launched, and not when somebody waits.
    pub(crate) early: bool,
    /// A kernel launched on a stream goes to another one instead: a mutant.
    pub(crate) wrong_stream: bool,
    /// Streams do not wait for events: a mutant.
    pub(crate) no_waits: bool,
    /// The host does not wait for events: a mutant.
    pub(crate) no_event_sync: bool,
    /// The n-th launch from now on fails as if it had touched memory that is not there.
    pub(crate) fault_at: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            version: 12000,
            ptx: 80,
            devices: 1,
            init: SUCCESS,
            memory: 4 << 30,
            early: false,
            wrong_stream: false,
            no_waits: false,
            no_event_sync: false,
            fault_at: None,
        }
    }
}

impl Settings {
    /// # Errors
    /// A setting that there is not.
    pub(crate) fn parse(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for setting in text.split(',').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let number = || value.parse::<u32>().map_err(|_| format!("{setting}: not a number"));
            match name {
                "version" => {
                    settings.version = i32::try_from(number()?).map_err(|error| error.to_string())?
                }
                "ptx" => settings.ptx = number()?,
                "devices" => {
                    settings.devices = i32::try_from(number()?).map_err(|error| error.to_string())?
                }
                "init" => settings.init = number()?,
                "mib" => settings.memory = u64::from(number()?) << 20,
                "early" => settings.early = true,
                "wrong_stream" => settings.wrong_stream = true,
                "no_waits" => settings.no_waits = true,
                "no_event_sync" => settings.no_event_sync = true,
                "fault_at" => settings.fault_at = Some(u64::from(number()?)),
                _ => return Err(format!("no setting {name}")),
            }
        }
        Ok(settings)
    }
}

/// A number that means success or not.
pub(crate) type Status = Result<(), u32>;

/// Work that a stream was given.
enum Work {
    /// The allocation at this address may be used from here on.
    Ready(u64),
    Free(u64),
    Fill {
        to: u64,
        value: u8,
        len: usize,
    },
    /// From pinned memory, as it is when this runs.
    FromHost {
        from: usize,
        to: u64,
        len: usize,
    },
    /// From other memory, as it was when this was given.
    FromCopy {
        from: Vec<u8>,
        to: u64,
    },
    ToHost {
        from: u64,
        to: usize,
        len: usize,
    },
    Within {
        from: u64,
        to: u64,
        len: usize,
    },
    Launch {
        module: u64,
        kernel: usize,
        grid: u32,
        block: u32,
        params: Vec<Vec<u8>>,
    },
    Record(u64),
    /// Another stream must have come to this point.
    Wait(Point),
}

/// A piece of work of a stream, by number.
#[derive(Clone, Copy, Debug)]
struct Point {
    stream: u64,
    number: u64,
}

struct Stream {
    device: i32,
    queue: VecDeque<(u64, Work)>,
}

#[derive(Default)]
struct Event {
    recorded: Option<Point>,
    at: Option<Instant>,
}

/// How host memory is read and written when work runs; the exports have the pointers.
pub(crate) struct Host {
    pub(crate) read: fn(usize, &mut [u8]),
    pub(crate) write: fn(usize, &[u8]),
}

pub(crate) struct Driver {
    pub(crate) settings: Settings,
    pub(crate) initialized: bool,
    host: Host,
    memory: Memory,
    streams: HashMap<u64, Stream>,
    events: HashMap<u64, Event>,
    modules: HashMap<u64, Module>,
    /// Functions by handle: module and number.
    functions: HashMap<u64, (u64, usize)>,
    /// Pinned memory: where it begins and how long it is.
    pinned: BTreeMap<usize, usize>,
    next: u64,
    launches: u64,
    /// What broke the device; all later calls fail with it.
    broken: Option<u32>,
}

impl Driver {
    pub(crate) fn new(settings: Settings, host: Host) -> Self {
        Driver {
            settings,
            initialized: false,
            host,
            memory: Memory::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            pinned: BTreeMap::new(),
            next: 0x1000,
            launches: 0,
            broken: None,
        }
    }

    /// A number that no other handle has and no piece of work.
    fn number(&mut self) -> u64 {
        self.next += 16;
        self.next
    }

    /// Fails if the device is broken.
    pub(crate) fn check(&self) -> Status {
        match self.broken {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }

    /// Allocations of device memory, their bytes, pinned allocations, launches.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let (allocations, bytes) = self.memory.in_use();
        [allocations, bytes, self.pinned.len() as u64, self.launches]
    }

    /// Free and total bytes of a device.
    pub(crate) fn memory_info(&self) -> (u64, u64) {
        let total = self.settings.memory;
        (total.saturating_sub(self.memory.in_use().1), total)
    }

    fn break_with(&mut self, fault: Fault) -> u32 {
        let (status, text) = match fault {
            Fault::Illegal(text) => (ILLEGAL_ADDRESS, text),
            Fault::Misaligned(text) => (MISALIGNED_ADDRESS, text),
        };
        report(&text);
        self.broken = Some(status);
        status
    }

    // Memory.

    pub(crate) fn allocate(&mut self, device: i32, len: usize, stream: Option<u64>) -> Result<u64, u32> {
        self.check()?;
        if len == 0 {
            return Err(INVALID_VALUE);
        }
        if self.memory.in_use().1 + len as u64 > self.settings.memory {
            return Err(OUT_OF_MEMORY);
        }
        let address = self.memory.allocate(device, len, stream.is_none());
        if let Some(stream) = stream {
            self.push(stream, Work::Ready(address))?;
        }
        Ok(address)
    }

    pub(crate) fn free(&mut self, address: u64, stream: Option<u64>) -> Status {
        self.check()?;
        if !self.memory.contains(address) {
            return Err(INVALID_VALUE);
        }
        match stream {
            Some(stream) => self.push(stream, Work::Free(address)).map(drop),
            None => {
                // This one waits for everything, as the real one does.
                self.run_all()?;
                self.memory.free(address);
                Ok(())
            }
        }
    }

    pub(crate) fn pin(&mut self, address: usize, len: usize) {
        self.pinned.insert(address, len);
    }

    /// The length of the pinned memory that was at this address.
    pub(crate) fn unpin(&mut self, address: usize) -> Result<usize, u32> {
        let len = *self.pinned.get(&address).ok_or(INVALID_VALUE)?;
        let touches = |work: &Work| match work {
            Work::FromHost { from: at, .. } | Work::ToHost { to: at, .. } => {
                (address..address + len).contains(at)
            }
            _ => false,
        };
        if self.streams.values().any(|stream| stream.queue.iter().any(|(_, work)| touches(work))) {
            return Err(
                self.break_with(Fault::Illegal("pinned memory is freed while a copy needs it".into()))
            );
        }
        self.pinned.remove(&address);
        Ok(len)
    }

    fn is_pinned(&self, address: usize, len: usize) -> bool {
        self.pinned
            .range(..=address)
            .next_back()
            .is_some_and(|(start, pinned)| address + len <= start + pinned)
    }

    // Streams and events.

    pub(crate) fn new_stream(&mut self, device: i32) -> u64 {
        let stream = self.number();
        self.streams.insert(stream, Stream { device, queue: VecDeque::new() });
        stream
    }

    pub(crate) fn destroy_stream(&mut self, stream: u64) -> Status {
        // What it was given is still done.
        self.run_stream(stream, u64::MAX)?;
        self.streams.remove(&stream).map(drop).ok_or(INVALID_HANDLE)
    }

    pub(crate) fn new_event(&mut self) -> u64 {
        let event = self.number();
        self.events.insert(event, Event::default());
        event
    }

    pub(crate) fn destroy_event(&mut self, event: u64) -> Status {
        self.events.remove(&event).map(drop).ok_or(INVALID_HANDLE)
    }

    fn push(&mut self, stream: u64, work: Work) -> Result<u64, u32> {
        self.check()?;
        let number = self.number();
        let stream = self.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?;
        stream.queue.push_back((number, work));
        Ok(number)
    }

    pub(crate) fn record(&mut self, event: u64, stream: u64) -> Status {
        if !self.events.contains_key(&event) {
            return Err(INVALID_HANDLE);
        }
        let number = self.push(stream, Work::Record(event))?;
        let event = self.events.get_mut(&event).expect("looked up above");
        event.recorded = Some(Point { stream, number });
        event.at = None;
        Ok(())
    }

    pub(crate) fn wait(&mut self, stream: u64, event: u64) -> Status {
        let recorded = self.events.get(&event).ok_or(INVALID_HANDLE)?.recorded;
        match recorded {
            Some(point) if !self.settings.no_waits => self.push(stream, Work::Wait(point)).map(drop),
            // Of an event that was never recorded there is nothing to wait for.
            _ => self.check(),
        }
    }

    pub(crate) fn synchronize_event(&mut self, event: u64) -> Status {
        self.check()?;
        let recorded = self.events.get(&event).ok_or(INVALID_HANDLE)?.recorded;
        match recorded {
            Some(point) if !self.settings.no_event_sync => self.run_stream(point.stream, point.number),
            _ => Ok(()),
        }
    }

    pub(crate) fn synchronize_stream(&mut self, stream: u64) -> Status {
        self.check()?;
        if !self.streams.contains_key(&stream) {
            return Err(INVALID_HANDLE);
        }
        self.run_stream(stream, u64::MAX)
    }

    /// Milliseconds from one event to another.
    pub(crate) fn elapsed(&self, start: u64, end: u64) -> Result<f32, u32> {
        let at = |event| self.events.get(&event).ok_or(INVALID_HANDLE)?.at.ok_or(NOT_READY);
        Ok(at(end)?.saturating_duration_since(at(start)?).as_secs_f32() * 1e3)
    }

    pub(crate) fn run_all(&mut self) -> Status {
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        streams.into_iter().try_for_each(|stream| self.run_stream(stream, u64::MAX))
    }

    // Work.

    pub(crate) fn fill(&mut self, stream: u64, to: u64, value: u8, len: usize) -> Status {
        self.push(stream, Work::Fill { to, value, len }).map(drop)
    }

    pub(crate) fn copy_within(&mut self, stream: u64, from: u64, to: u64, len: usize) -> Status {
        self.push(stream, Work::Within { from, to, len }).map(drop)
    }

    pub(crate) fn copy_from_host(&mut self, stream: u64, from: usize, to: u64, len: usize) -> Status {
        let work = if self.is_pinned(from, len) {
            Work::FromHost { from, to, len }
        } else {
            let mut bytes = vec![0; len];
            (self.host.read)(from, &mut bytes);
            Work::FromCopy { from: bytes, to }
        };
        self.push(stream, work).map(drop)
    }

    pub(crate) fn copy_to_host(&mut self, stream: u64, from: u64, to: usize, len: usize) -> Status {
        let number = self.push(stream, Work::ToHost { from, to, len })?;
        // Into memory that is not pinned the real one does it before it returns, too.
        if self.is_pinned(to, len) { Ok(()) } else { self.run_stream(stream, number) }
    }

    pub(crate) fn load(&mut self, text: &str) -> Result<u64, u32> {
        self.check()?;
        let module = match ptx::parse(text) {
            Ok(module) => module,
            Err(problem) => {
                report(&problem);
                return Err(INVALID_PTX);
            }
        };
        if module.version > self.settings.ptx {
            return Err(UNSUPPORTED_PTX_VERSION);
        }
        let handle = self.number();
        self.modules.insert(handle, module);
        Ok(handle)
    }

    pub(crate) fn unload(&mut self, module: u64) -> Status {
        self.run_all()?;
        self.functions.retain(|_, (of, _)| *of != module);
        self.modules.remove(&module).map(drop).ok_or(INVALID_HANDLE)
    }

    pub(crate) fn function(&mut self, module: u64, name: &str) -> Result<u64, u32> {
        let kernels = &self.modules.get(&module).ok_or(INVALID_HANDLE)?.kernels;
        let kernel = kernels.iter().position(|kernel| kernel.name == name).ok_or(NOT_FOUND)?;
        let handle = self.number();
        self.functions.insert(handle, (module, kernel));
        Ok(handle)
    }

    /// Bytes of each parameter of a function.
    pub(crate) fn params(&self, function: u64) -> Result<&[usize], u32> {
        let (module, kernel) = self.functions.get(&function).ok_or(INVALID_HANDLE)?;
        Ok(&self.modules[module].kernels[*kernel].params)
    }

    pub(crate) fn launch(
        &mut self,
        stream: u64,
        function: u64,
        grid: [u32; 3],
        block: [u32; 3],
        params: Vec<Vec<u8>>,
    ) -> Status {
        let (module, kernel) = *self.functions.get(&function).ok_or(INVALID_HANDLE)?;
        let most = self.modules[&module].kernels[kernel].max_threads.unwrap_or(1024);
        let flat = grid[1] == 1 && grid[2] == 1 && block[1] == 1 && block[2] == 1;
        if !flat || grid[0] == 0 || grid[0] > i32::MAX.cast_unsigned() || block[0] == 0 || block[0] > most {
            return Err(INVALID_VALUE);
        }
        let stream = if self.settings.wrong_stream { self.another(stream) } else { stream };
        let (grid, block) = (grid[0], block[0]);
        let number = self.push(stream, Work::Launch { module, kernel, grid, block, params })?;
        if self.settings.early { self.run_stream(stream, number) } else { Ok(()) }
    }

    /// Another stream of the same device, if there is one: the one with the next handle.
    fn another(&self, stream: u64) -> u64 {
        let Some(this) = self.streams.get(&stream) else { return stream };
        let others = self.streams.iter().filter(|(other, of)| **other != stream && of.device == this.device);
        let mut others: Vec<u64> = others.map(|(other, _)| *other).collect();
        others.sort_by_key(|other| other.wrapping_sub(stream));
        others.first().copied().unwrap_or(stream)
    }

    /// Runs a stream up to its piece of work `until`.
    fn run_stream(&mut self, stream: u64, until: u64) -> Status {
        self.check()?;
        loop {
            // A stream that is gone has done its work.
            let Some(Stream { device, queue }) = self.streams.get_mut(&stream) else { return Ok(()) };
            let device = *device;
            match queue.front() {
                Some((number, _)) if *number <= until => {}
                _ => return Ok(()),
            }
            let (_, work) = queue.pop_front().expect("looked at above");
            if let Work::Wait(point) = work {
                self.run_stream(point.stream, point.number)?;
                continue;
            }
            self.run(device, work).map_err(|fault| self.break_with(fault))?;
        }
    }

    fn run(&mut self, device: i32, work: Work) -> Result<(), Fault> {
        match work {
            Work::Ready(address) => self.memory.make_ready(address),
            Work::Free(address) => {
                self.memory.free(address);
            }
            Work::Fill { to, value, len } => self.memory.bytes_mut(device, to, len)?.fill(value),
            Work::FromHost { from, to, len } => {
                (self.host.read)(from, self.memory.bytes_mut(device, to, len)?)
            }
            Work::FromCopy { from, to } => {
                self.memory.bytes_mut(device, to, from.len())?.copy_from_slice(&from);
            }
            Work::ToHost { from, to, len } => (self.host.write)(to, self.memory.bytes(device, from, len)?),
            Work::Within { from, to, len } => {
                let bytes = self.memory.bytes(device, from, len)?.to_vec();
                self.memory.bytes_mut(device, to, len)?.copy_from_slice(&bytes);
            }
            Work::Launch { module, kernel, grid, block, params } => {
                self.launches += 1;
                if self.settings.fault_at == Some(self.launches) {
                    return Err(Fault::Illegal("told to fail".into()));
                }
                let launch = Launch { number: self.launches, device, grid, block, params: &params };
                machine::run(&self.modules[&module].kernels[kernel], launch, &mut self.memory)?;
            }
            Work::Record(event) => {
                if let Some(event) = self.events.get_mut(&event) {
                    event.at = Some(Instant::now());
                }
            }
            Work::Wait(_) => unreachable!("done by the caller"),
        }
        Ok(())
    }
}

/// Says what was wrong: a status has no room for it. If it cannot be written, there is nobody to see it.
fn report(problem: &str) {
    let _ = writeln!(std::io::stderr(), "stand-in: {problem}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_nonsense_is_not() {
        let settings = Settings::parse("version=11040,devices=2,wrong_stream,fault_at=3").unwrap();
        assert_eq!((settings.version, settings.devices, settings.wrong_stream), (11040, 2, true));
        assert_eq!(settings.fault_at, Some(3));
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert!(Settings::parse("speed=fast").is_err());
        assert!(Settings::parse("devices=two").is_err());
    }
}
