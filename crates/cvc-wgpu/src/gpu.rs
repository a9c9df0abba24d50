//! A device and its queue, with every failure as a value.
//!
//! wgpu reports most failures beside its calls, and panics if nobody listens. So all calls are made inside [`Gpu::scoped`],
//! which listens on this thread; a device that we opened also has a handler for whatever is reported on others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cvc_codec::{DecodeError, DeviceKind};
use wgpu::{BufferAsyncError, ErrorFilter, MapMode, PollType, SubmissionIndex};

/// A device and its queue.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Why the device is gone, if it is.
    lost: Arc<OnceLock<String>>,
    /// What was reported outside of any scope.
    uncaptured: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// A device of the caller, whose handlers are left alone.
    pub(crate) fn borrowed(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Gpu { device, queue, lost: Arc::default(), uncaptured: Arc::default() }
    }

    /// A device that is ours alone.
    pub(crate) fn owned(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let gpu = Gpu::borrowed(device, queue);
        let uncaptured = gpu.uncaptured.clone();
        gpu.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut first = uncaptured.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        }));
        let lost = gpu.lost.clone();
        gpu.device.set_device_lost_callback(move |reason, message| {
            // Only the first reason counts.
            let _ = lost.set(if message.is_empty() { format!("{reason:?}") } else { message });
        });
        gpu
    }

    /// Does `work`, and fails if the device reports a failure meanwhile.
    pub(crate) fn scoped<T>(&self, work: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        let filters = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
        let mut scopes: Vec<_> = filters.map(|filter| self.device.push_error_scope(filter)).into();
        let result = work();
        let mut reported = None;
        while let Some(scope) = scopes.pop() {
            // Out of memory makes buffers invalid, and then their use: the scope outside has the cause.
            reported = pollster::block_on(scope.pop()).or(reported);
        }
        if let Some(reason) = self.lost.get() {
            return Err(lost(reason));
        }
        let uncaptured = self.uncaptured.lock().unwrap_or_else(PoisonError::into_inner).take();
        match reported {
            Some(wgpu::Error::OutOfMemory { .. }) => Err(failed(
                "there is not enough memory on the device: read fewer rows at a time, or use the cpu",
            )),
            Some(wgpu::Error::Internal { description, .. }) => {
                Err(failed(format!("{}: update its driver, or use the cpu", one_line(&description))))
            }
            Some(error) => Err(bug(error)),
            None => match uncaptured {
                Some(error) => Err(bug(error)),
                None => result,
            },
        }
    }

    /// Waits until what was submitted is done.
    pub(crate) fn wait(&self, submission: SubmissionIndex) -> Result<(), DecodeError> {
        let wait = || self.device.poll(PollType::Wait { submission_index: Some(submission), timeout: None });
        // A device that is lost while we wait makes wgpu panic.
        match catch_unwind(AssertUnwindSafe(wait)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost("it did not answer")),
        }
    }

    /// Asks for a buffer to be mapped, once what was submitted last is done with it.
    pub(crate) fn map(&self, buffer: &wgpu::Buffer, mode: MapMode, after: SubmissionIndex) -> Mapping {
        let (sender, receiver) = channel();
        buffer.slice(..).map_async(mode, move |result| {
            // Nobody waits if another failure came first.
            let _ = sender.send(result);
        });
        Mapping { after, receiver }
    }

    /// Waits until the buffer is mapped. It is proof that the device has done what was submitted, and is still there.
    pub(crate) fn mapped(&self, mapping: Mapping) -> Result<(), DecodeError> {
        let Mapping { after, receiver } = mapping;
        loop {
            self.wait(after.clone())?;
            // Another thread that waits may have taken the answer, and be about to give it.
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => return Err(lost(&error.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Err(lost("it dropped a request")),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// A buffer that is to be mapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    after: SubmissionIndex,
    receiver: Receiver<Result<(), BufferAsyncError>>,
}

/// The device failed; `problem` ends with what to do.
pub(crate) fn failed(problem: impl Into<String>) -> DecodeError {
    DecodeError::Device { device: DeviceKind::Wgpu, problem: problem.into() }
}

fn lost(reason: &str) -> DecodeError {
    failed(format!(
        "the device was lost ({reason}): open it again; if that happens often, update its driver or use the cpu"
    ))
}

/// A call that wgpu refuses is our mistake, whoever made it.
pub(crate) fn bug(error: impl std::fmt::Display) -> DecodeError {
    let error = one_line(&error.to_string());
    failed(format!("{error}: this is a bug of cvc, please report it; the cpu can be used instead"))
}

/// Messages of wgpu are several indented lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
