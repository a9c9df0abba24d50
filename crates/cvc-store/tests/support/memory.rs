//! A file layer in memory on which everything can go wrong: the process dies at any call that writes, the machine loses
//! power, the disk is full.
//!
//! When power goes, what was not synced is left in any order: every sector of every write may be there, be missing, be
//! torn, or hold rubbish; every change of a name may be there or not. What was synced is there.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cvc::ReadAt;
use cvc_store::layer::{Layer, LayerFile, LockError};

use super::Random;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Content {
    /// What any process sees.
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies in this call.
    Kill(u64),
    /// This call fails; those after it do not.
    Fail(u64, io::ErrorKind),
    /// This call and all after it fail that take space.
    Full(u64),
    /// No file gets another name.
    Rename,
}

#[derive(Debug)]
struct Disk {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    changes: Vec<NameChange>,
    next_file: u64,
    calls: u64,
    fault: Option<Fault>,
    dead: bool,
    locked: bool,
    /// Nothing can be opened.
    no_handles: bool,
    /// How often files whose names begin so cannot be opened.
    unopened: (String, u64),
    boot: u64,
    clock: u64,
    random: Random,
}

/// The directory. Copies are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Mutex<Disk>>);

impl Memory {
    pub(crate) fn new(seed: u64) -> Memory {
        Memory(Arc::new(Mutex::new(Disk {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            next_file: 1,
            calls: 0,
            fault: None,
            dead: false,
            locked: false,
            no_handles: false,
            unopened: (String::new(), 0),
            boot: 1,
            clock: 1_000_000,
            random: Random(seed),
        })))
    }

    pub(crate) fn layer(&self) -> Arc<dyn Layer> {
        Arc::new(self.clone())
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    /// From now on nothing can be opened, or again everything.
    pub(crate) fn set_no_handles(&self, none: bool) {
        self.0.lock().unwrap().no_handles = none;
    }

    /// Files whose names begin so cannot be opened, so often.
    pub(crate) fn set_unopened(&self, prefix: &str, times: u64) {
        self.0.lock().unwrap().unopened = (prefix.into(), times);
    }

    /// Calls that write, so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    /// The process is gone; another one looks at the files.
    pub(crate) fn restart_process(&self) {
        let mut disk = self.0.lock().unwrap();
        (disk.dead, disk.locked, disk.fault) = (false, false, None);
    }

    /// The machine lost power and was started again.
    pub(crate) fn restart_machine(&self, random: &mut Random) {
        let mut disk = self.0.lock().unwrap();
        // Now and then everything is there, or nothing.
        let mood = random.below(6);
        for content in disk.files.values_mut() {
            let mut left = content.synced.clone();
            for (offset, bytes) in &content.writes {
                let mut at = 0;
                while at < bytes.len() {
                    let start = offset + at;
                    let len = (SECTOR - start % SECTOR).min(bytes.len() - at);
                    let part = &bytes[at..at + len];
                    at += len;
                    let kept = match (mood, random.below(8)) {
                        (0, _) | (2.., 0..4) => len,
                        (1, _) | (2.., 4..6) => continue,
                        (_, 6) => random.index(len),
                        _ => {
                            // Rubbish, in the whole sector.
                            let sector = start / SECTOR * SECTOR;
                            let end = (sector + SECTOR).max(left.len().min(sector + SECTOR));
                            left.resize(left.len().max(end), 0);
                            left[sector..sector + SECTOR].fill_with(|| random.next().to_le_bytes()[0]);
                            continue;
                        }
                    };
                    left.resize(left.len().max(start + kept), 0);
                    left[start..start + kept].copy_from_slice(&part[..kept]);
                }
            }
            // The length may be known although the bytes are not there.
            if random.below(2) == 0 {
                left.resize(left.len().max(content.now.len()), 0);
            }
            *content = Content { now: left.clone(), synced: left, writes: Vec::new() };
        }
        let mut names = std::mem::take(&mut disk.synced_names);
        for change in std::mem::take(&mut disk.changes) {
            let kept = match mood {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            if !kept {
                continue;
            }
            match change {
                NameChange::Set(name, file) => {
                    names.insert(name, file);
                }
                NameChange::Rename(from, to, file) => {
                    if names.get(&from) == Some(&file) {
                        names.remove(&from);
                    }
                    names.insert(to, file);
                }
                NameChange::Remove(name) => {
                    names.remove(&name);
                }
            }
        }
        let used: Vec<u64> = names.values().copied().collect();
        disk.files.retain(|file, _| used.contains(file));
        (disk.names, disk.synced_names) = (names.clone(), names);
        (disk.dead, disk.locked, disk.fault) = (false, false, None);
        disk.boot += 1;
    }

    /// The files, to be looked at and damaged.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.0.lock().unwrap();
        disk.names.iter().map(|(name, file)| (name.clone(), disk.files[file].now.clone())).collect()
    }

    /// A directory with these files, all synced.
    pub(crate) fn of(files: &BTreeMap<String, Vec<u8>>) -> Memory {
        let memory = Memory::new(7);
        {
            let mut disk = memory.0.lock().unwrap();
            for (name, bytes) in files {
                let file = disk.next_file;
                disk.next_file += 1;
                let content = Content { now: bytes.clone(), synced: bytes.clone(), writes: Vec::new() };
                disk.files.insert(file, content);
                disk.names.insert(name.clone(), file);
                disk.synced_names.insert(name.clone(), file);
            }
        }
        memory
    }
}

/// What becomes of a call.
enum Step {
    Done,
    /// It fails after a part of it.
    Fails(io::Error),
}

impl Disk {
    fn step(&mut self, takes_space: bool) -> io::Result<Step> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.calls += 1;
        Ok(match self.fault {
            Some(Fault::Kill(at)) if self.calls >= at => {
                self.dead = true;
                Step::Fails(io::Error::other("the process was killed"))
            }
            Some(Fault::Fail(at, kind)) if self.calls == at => Step::Fails(kind.into()),
            Some(Fault::Full(at)) if self.calls >= at && takes_space => {
                Step::Fails(io::ErrorKind::StorageFull.into())
            }
            _ => Step::Done,
        })
    }

    /// Whether a call that fails does its work all the same.
    fn does_it(&mut self, step: &Step) -> bool {
        match step {
            Step::Done => true,
            // An error that is reported has changed nothing; who is killed may have been done.
            Step::Fails(_) => self.dead && self.random.below(2) == 0,
        }
    }

    fn may_be_opened(&mut self, name: &str) -> io::Result<()> {
        let (prefix, times) = &mut self.unopened;
        if *times == 0 || !name.starts_with(prefix.as_str()) {
            return Ok(());
        }
        *times -= 1;
        Err(io::Error::other("too many open files"))
    }

    fn file(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn result(step: Step) -> io::Result<()> {
    match step {
        Step::Done => Ok(()),
        Step::Fails(error) => Err(error),
    }
}

struct Open {
    memory: Memory,
    file: u64,
}

impl LayerFile for Open {
    fn len(&self) -> io::Result<u64> {
        let disk = self.memory.0.lock().unwrap();
        Ok(disk.files.get(&self.file).map_or(0, |content| content.now.len()) as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.memory.0.lock().unwrap();
        let Some(content) = disk.files.get(&self.file) else { return Ok(0) };
        let from = content.now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.memory.0.lock().unwrap();
        let step = disk.step(true)?;
        let len = match &step {
            Step::Done => bytes.len(),
            Step::Fails(_) => disk.random.index(bytes.len() + 1),
        };
        let offset = usize::try_from(offset).unwrap();
        if let Some(content) = disk.files.get_mut(&self.file)
            && len > 0
        {
            content.now.resize(content.now.len().max(offset + len), 0);
            content.now[offset..offset + len].copy_from_slice(&bytes[..len]);
            content.writes.push((offset, bytes[..len].to_vec()));
        }
        result(step)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.memory.0.lock().unwrap();
        let step = disk.step(false)?;
        let (done, dead) = (disk.does_it(&step), disk.dead);
        if let Some(content) = disk.files.get_mut(&self.file)
            && (done || !dead)
        {
            // What could not be written is not tried again, and still seen, as on Linux.
            for (offset, bytes) in content.writes.drain(..).filter(|_| done) {
                content.synced.resize(content.synced.len().max(offset + bytes.len()), 0);
                content.synced[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        result(step)
    }
}

struct Locked(Memory);

impl Drop for Locked {
    fn drop(&mut self) {
        let mut disk = self.0.0.lock().unwrap();
        if !disk.dead {
            disk.locked = false;
        }
    }
}

impl Layer for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        let mut disk = self.0.lock().unwrap();
        let step = disk.step(true)?;
        if disk.does_it(&step) {
            let file = disk.next_file;
            disk.next_file += 1;
            disk.files.insert(file, Content::default());
            disk.names.insert(name.into(), file);
            disk.changes.push(NameChange::Set(name.into(), file));
        }
        result(step)?;
        let file = disk.file(name)?;
        drop(disk);
        Ok(Box::new(Open { memory: self.clone(), file }))
    }

    fn create_new(&self, name: &str) -> io::Result<Box<dyn LayerFile>> {
        if self.0.lock().unwrap().names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(name)
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn LayerFile>> {
        if self.0.lock().unwrap().no_handles {
            return Err(io::Error::other("too many open files"));
        }
        self.0.lock().unwrap().may_be_opened(name)?;
        let file = self.0.lock().unwrap().file(name)?;
        Ok(Box::new(Open { memory: self.clone(), file }))
    }

    fn segment(&self, name: &str) -> io::Result<Box<dyn ReadAt>> {
        let mut disk = self.0.lock().unwrap();
        disk.may_be_opened(name)?;
        Ok(Box::new(disk.files[&disk.file(name)?].now.clone()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let step = disk.step(true)?;
        if disk.fault == Some(Fault::Rename) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if disk.does_it(&step) {
            let file = disk.file(from)?;
            disk.names.remove(from);
            disk.names.insert(to.into(), file);
            disk.changes.push(NameChange::Rename(from.into(), to.into(), file));
        }
        result(step)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let step = disk.step(false)?;
        if disk.does_it(&step) {
            disk.file(name)?;
            disk.names.remove(name);
            disk.changes.push(NameChange::Remove(name.into()));
        }
        result(step)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let step = disk.step(false)?;
        if disk.does_it(&step) {
            disk.synced_names = disk.names.clone();
            disk.changes.clear();
        }
        result(step)
    }

    fn lock(&self) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let mut disk = self.0.lock().unwrap();
        if std::mem::replace(&mut disk.locked, true) {
            return Err(LockError::Held(None));
        }
        Ok(Box::new(Locked(self.clone())))
    }

    fn boot(&self) -> u64 {
        self.0.lock().unwrap().boot
    }

    fn now(&self) -> u64 {
        let mut disk = self.0.lock().unwrap();
        disk.clock += 1;
        disk.clock
    }

    fn random(&self) -> u64 {
        self.0.lock().unwrap().random.next()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/memory").join(name)
    }
}
