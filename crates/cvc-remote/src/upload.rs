//! A file that is written to where it shall be, part by part.
//!
//! A store shows an object when it is complete and not before: an upload that is dropped, or that fails, is aborted, and
//! nothing is left.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use cvc::Overwrite;
use cvc::io::atomic_file::AtomicFile;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use tokio::task::JoinHandle;

use crate::counters::Counters;
use crate::error::RemoteError;
use crate::options::RemoteOptions;
use crate::place::{Kind, Place};
use crate::runtime::{lost, runtime, wait};

/// Parts that stores take of one object.
const PARTS: usize = 10_000;

/// The least length of a part that stores take, but for the last.
const LEAST_PART: u64 = 5 << 20;

/// A file on its way. [`Writer::to_sink`](cvc::Writer::to_sink) takes it and `finish_sink` gives it back, whole; then it must be
/// [finished](Upload::finish).
pub struct Upload {
    to: To,
    counters: Counters,
}

enum To {
    Far(Far),
    Near(AtomicFile),
}

struct Far {
    url: String,
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// The process that began it, to which its connections belong.
    of: u32,
    part_len: usize,
    concurrency: usize,
    /// How long an end is waited for that nobody wants to know of.
    timeout: Duration,
    /// What has not been sent yet.
    buffer: Vec<u8>,
    /// Begun with the first full part.
    parts: Option<Box<dyn MultipartUpload>>,
    sent: usize,
    under_way: VecDeque<JoinHandle<object_store::Result<()>>>,
    /// Why no more can be written.
    failed: Option<RemoteError>,
}

/// Without what the options say of secrets.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Upload");
        match &self.to {
            To::Far(far) => fields.field("url", &far.url).field("parts", &far.sent),
            To::Near(file) => fields.field("file", file),
        };
        fields.field("stats", &self.counters.stats()).finish()
    }
}

impl Upload {
    /// Begins a file that will be at `url`, in a store or on this machine. One that is there is replaced when this one is whole.
    ///
    /// # Errors
    /// The URL or an option makes no sense, or is of a kind that cannot be written: HTTP.
    pub fn create(url: &str, options: &RemoteOptions) -> Result<Upload, RemoteError> {
        let place = Place::parse(url)?;
        options.check()?;
        let counters = Counters::default();
        let to = match place.kind {
            Kind::Http => {
                let problem = "files are not written by HTTP; write to a store (s3, gs, az) or to a path";
                return Err(RemoteError::url(&place.shown, problem));
            }
            Kind::File => {
                let file = AtomicFile::create(&place.file_path()?, Overwrite::Allow);
                To::Near(file.map_err(|cause| RemoteError::Local(Arc::new(cvc::Error::Output(cause))))?)
            }
            _ => {
                let _inside = runtime()?.enter();
                let (store, path) = place.store(options, &counters)?;
                To::Far(Far {
                    url: place.shown,
                    store,
                    path,
                    of: process::id(),
                    part_len: usize::try_from(options.piece.max(LEAST_PART)).unwrap_or(usize::MAX),
                    concurrency: options.concurrency.max(1),
                    timeout: options.timeout,
                    buffer: Vec::new(),
                    parts: None,
                    sent: 0,
                    under_way: VecDeque::new(),
                    failed: None,
                })
            }
        };
        Ok(Upload { to, counters })
    }

    /// What counts the requests.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Sends what is left and makes the file appear.
    ///
    /// # Errors
    /// A part could not be sent, or the store does not put them together. Nothing appears then.
    pub fn finish(self) -> Result<(), RemoteError> {
        match self.to {
            To::Near(file) => {
                file.commit().map_err(|cause| RemoteError::Local(Arc::new(cvc::Error::Output(cause))))
            }
            To::Far(mut far) => far.finish(),
        }
    }
}

impl Far {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), RemoteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.part_len - self.buffer.len()));
            self.buffer.extend_from_slice(part);
            bytes = rest;
            if self.buffer.len() == self.part_len {
                self.send().inspect_err(|error| self.failed = Some(error.clone()))?;
            }
        }
        Ok(())
    }

    /// Sends what is in the buffer as the next part.
    fn send(&mut self) -> Result<(), RemoteError> {
        self.check_process()?;
        if self.sent == PARTS {
            let problem = format!("a file of more than {PARTS} parts; raise this option");
            return Err(RemoteError::option("piece", &self.part_len.to_string(), problem));
        }
        if self.parts.is_none() {
            let (store, path) = (self.store.clone(), self.path.clone());
            let begun = wait(async move { store.put_multipart(&path).await })?;
            self.parts = Some(begun.map_err(|error| RemoteError::of_store(&self.url, error))?);
        }
        while self.under_way.len() >= self.concurrency {
            self.wait_for_one()?;
        }
        let Some(parts) = &mut self.parts else { unreachable!("begun above") };
        let part = parts.put_part(mem::take(&mut self.buffer).into());
        self.sent += 1;
        self.under_way.push_back(runtime()?.spawn(part));
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<(), RemoteError> {
        let Some(part) = self.under_way.pop_front() else { return Ok(()) };
        match wait(part)? {
            Ok(sent) => sent.map_err(|error| RemoteError::of_store(&self.url, error)),
            Err(_) => Err(lost()),
        }
    }

    fn finish(&mut self) -> Result<(), RemoteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.check_process()?;
        if self.parts.is_none() {
            // One part is an object.
            let payload = PutPayload::from(mem::take(&mut self.buffer));
            let (store, path) = (self.store.clone(), self.path.clone());
            let put = wait(async move { store.put(&path, payload).await })?;
            return put.map(drop).map_err(|error| RemoteError::of_store(&self.url, error));
        }
        if !self.buffer.is_empty() {
            self.send()?;
        }
        while !self.under_way.is_empty() {
            self.wait_for_one()?;
        }
        let Some(mut parts) = self.parts.take() else { unreachable!("looked at above") };
        let (completed, parts) = wait(async move { (parts.complete().await, parts) })?;
        completed.map(drop).map_err(|error| {
            // To be aborted.
            self.parts = Some(parts);
            RemoteError::of_store(&self.url, error)
        })
    }

    fn check_process(&self) -> Result<(), RemoteError> {
        if self.of == process::id() {
            return Ok(());
        }
        let cause =
            io::Error::other("the upload was begun by another process, from which this one was forked");
        Err(crate::runtime::system(cause))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // In a forked process the upload is the parent's.
        let Some(mut parts) = self.parts.take().filter(|_| self.of == process::id()) else { return };
        let under_way = mem::take(&mut self.under_way);
        let Ok(runtime) = runtime() else { return };
        let (send, receive) = channel();
        runtime.spawn(async move {
            under_way.iter().for_each(JoinHandle::abort);
            // A part that arrives after the end of its upload may stay, so none is sent any more.
            for part in under_way {
                let _ = part.await;
            }
            let _ = send.send(parts.abort().await);
        });
        // It goes on if it takes longer. There is nobody to complain to; stores let go of what was left behind by rules of their own.
        let _ = receive.recv_timeout(self.timeout);
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::Near(file) => file.write(bytes),
            To::Far(far) => {
                far.write(bytes)?;
                Ok(bytes.len())
            }
        }
    }

    /// Parts are sent when they are full, and the last one when the file is finished.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Near(file) => file.flush(),
            To::Far(_) => Ok(()),
        }
    }
}
