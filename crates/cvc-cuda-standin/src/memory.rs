//! Device memory: allocations that know their ends.
//!
//! Addresses are not those of any host memory, so following one on the host is a crash and not a success.

use std::collections::BTreeMap;

/// Where device addresses begin, how they are aligned, and what lies between two allocations.
const FIRST: u64 = 0x7_0000_0000;
const ALIGNMENT: u64 = 512;
const GAP: u64 = 4096;

/// What memory holds before anything is written.
const POISON: u8 = 0xcd;

/// The memory of all devices.
#[derive(Debug)]
pub(crate) struct Memory {
    allocations: BTreeMap<u64, Allocation>,
    next: u64,
}

#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) device: i32,
    /// Whether the point of the stream that it was made on has come.
    pub(crate) ready: bool,
    bytes: Vec<u8>,
    /// The launch that loaded from here as from constant memory, and the one that stored here.
    constant_in: u64,
    stored_in: u64,
}

/// What went wrong with an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Illegal(String),
    Misaligned(String),
}

impl Memory {
    pub(crate) fn new() -> Self {
        Memory { allocations: BTreeMap::new(), next: FIRST }
    }

    pub(crate) fn allocate(&mut self, device: i32, len: usize, ready: bool) -> u64 {
        let address = self.next;
        self.next += (len as u64).div_ceil(ALIGNMENT) * ALIGNMENT + GAP;
        let bytes = vec![POISON; len];
        self.allocations.insert(address, Allocation { device, ready, bytes, constant_in: 0, stored_in: 0 });
        address
    }

    /// Whether there was such an allocation.
    pub(crate) fn free(&mut self, address: u64) -> bool {
        self.allocations.remove(&address).is_some()
    }

    pub(crate) fn make_ready(&mut self, address: u64) {
        if let Some(allocation) = self.allocations.get_mut(&address) {
            allocation.ready = true;
        }
    }

    pub(crate) fn contains(&self, address: u64) -> bool {
        self.allocations.contains_key(&address)
    }

    /// Allocations and their bytes.
    pub(crate) fn in_use(&self) -> (u64, u64) {
        let bytes = self.allocations.values().map(|allocation| allocation.bytes.len() as u64);
        (self.allocations.len() as u64, bytes.sum())
    }

    fn find(
        &mut self,
        device: i32,
        address: u64,
        len: usize,
        what: &str,
    ) -> Result<(&mut Allocation, usize), Fault> {
        let illegal =
            |problem: &str| Fault::Illegal(format!("{what} of {len} bytes at {address:#x}: {problem}"));
        let Some((start, allocation)) = self.allocations.range_mut(..=address).next_back() else {
            return Err(illegal("no memory of this device"));
        };
        let offset = usize::try_from(address - start).map_err(|_| illegal("no memory of this device"))?;
        if offset >= allocation.bytes.len() {
            return Err(illegal("no memory of this device, or memory that was freed"));
        }
        if allocation.bytes.len() - offset < len {
            return Err(illegal("beyond the end of its allocation"));
        }
        if !allocation.ready {
            return Err(illegal("memory whose allocation this work was not ordered behind"));
        }
        if allocation.device != device {
            return Err(illegal("memory of another device"));
        }
        Ok((allocation, offset))
    }

    /// Bytes that a copy reads.
    pub(crate) fn bytes(&mut self, device: i32, address: u64, len: usize) -> Result<&[u8], Fault> {
        if len == 0 {
            return Ok(&[]);
        }
        let (allocation, offset) = self.find(device, address, len, "a copy")?;
        Ok(&allocation.bytes[offset..offset + len])
    }

    /// Bytes that a copy writes.
    pub(crate) fn bytes_mut(&mut self, device: i32, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        if len == 0 {
            return Ok(&mut []);
        }
        let (allocation, offset) = self.find(device, address, len, "a copy")?;
        Ok(&mut allocation.bytes[offset..offset + len])
    }

    /// What a thread of launch number `launch` loads. `constant`: by way of a cache that does not see stores.
    pub(crate) fn load(
        &mut self,
        device: i32,
        launch: u64,
        address: u64,
        len: usize,
        constant: bool,
    ) -> Result<&[u8], Fault> {
        aligned(address, len, "a load")?;
        let (allocation, offset) = self.find(device, address, len, "a load")?;
        if constant {
            allocation.constant_in = launch;
            both(allocation, launch, address)?;
        }
        Ok(&allocation.bytes[offset..offset + len])
    }

    /// Where a thread of launch number `launch` stores.
    pub(crate) fn store(
        &mut self,
        device: i32,
        launch: u64,
        address: u64,
        len: usize,
    ) -> Result<&mut [u8], Fault> {
        aligned(address, len, "a store")?;
        let (allocation, offset) = self.find(device, address, len, "a store")?;
        allocation.stored_in = launch;
        both(allocation, launch, address)?;
        Ok(&mut allocation.bytes[offset..offset + len])
    }
}

fn aligned(address: u64, len: usize, what: &str) -> Result<(), Fault> {
    match address.is_multiple_of(len as u64) {
        true => Ok(()),
        false => Err(Fault::Misaligned(format!("{what} of {len} bytes at {address:#x}"))),
    }
}

/// `.nc` says that nothing stores to that memory while the kernel runs. By allocation, not by byte: no kernel here needs
/// it finer.
fn both(allocation: &Allocation, launch: u64, address: u64) -> Result<(), Fault> {
    match allocation.constant_in == launch && allocation.stored_in == launch {
        true => Err(Fault::Illegal(format!(
            "a launch loads with .nc from, and stores to, memory at {address:#x}"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_access_is_a_fault() {
        let mut memory = Memory::new();
        let a = memory.allocate(0, 100, true);
        let b = memory.allocate(0, 100, false);
        let c = memory.allocate(1, 100, true);
        assert_eq!(memory.load(0, 1, a + 96, 4, true), Ok([POISON; 4].as_slice()));
        assert!(matches!(memory.load(0, 1, a + 98, 4, true), Err(Fault::Misaligned(_))));
        let illegal = |result: Result<&[u8], Fault>, problem: &str| match result {
            Err(Fault::Illegal(text)) => assert!(text.contains(problem), "{text}"),
            other => panic!("{other:?}"),
        };
        illegal(memory.load(0, 1, a + 96, 8, false), "beyond the end");
        illegal(memory.load(0, 1, a + 512, 4, false), "freed");
        illegal(memory.load(0, 1, 64, 4, false), "no memory");
        illegal(memory.load(0, 1, b, 4, false), "not ordered");
        illegal(memory.load(0, 1, c, 4, false), "another device");
        assert!(memory.store(0, 1, a, 4).unwrap_err() != Fault::Illegal(String::new()));
        assert!(memory.store(0, 2, a, 4).is_ok());
        illegal(memory.load(0, 2, a, 4, true), ".nc");
        assert!(memory.free(a) && !memory.free(a));
        illegal(memory.bytes(0, a, 4), "no memory");
    }
}
