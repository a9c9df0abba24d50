//! A file that is somewhere else, as a source of bytes.

use std::fmt;
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cvc::ReadAt;
use cvc::codec::SourceError;
use cvc::io::FileSource;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use crate::counters::Counters;
use crate::error::RemoteError;
use crate::http::Http;
use crate::options::RemoteOptions;
use crate::place::{Kind, Place};
use crate::plan::{Plan, Rules};
use crate::runtime::{lost, runtime, wait};
use crate::store::Object;

/// What the first request brings: all of a small file, and of another its prelude or header.
const FIRST_LEN: u64 = 64 << 10;

/// An open file that is somewhere else. [`Reader::new`](cvc::Reader::new) takes it.
///
/// What a reader asks for in one call is fetched together: ranges near each other as one, several in one request where the server
/// knows how, long ones in pieces, several requests at a time. All threads share what is allowed to be at work at once. It may be used in
/// a process that was forked from the one that opened it.
pub struct Remote {
    at: At,
    counters: Counters,
}

enum At {
    Far(Box<Far>),
    Near(FileSource),
}

struct Far {
    place: Place,
    options: RemoteOptions,
    counters: Counters,
    version: Arc<Version>,
    /// The first bytes of the file.
    front: Bytes,
    /// Whether a request may name several ranges: [`UNKNOWN`], [`YES`] or [`NO`].
    several: AtomicU8,
    /// The way there, of which process.
    link: Mutex<(u32, Arc<Link>)>,
}

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// Which bytes these are.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) len: u64,
    pub(crate) e_tag: Option<String>,
    /// When it was changed last, as the server says it.
    pub(crate) modified: Option<String>,
}

/// What the first request brought.
pub(crate) struct First {
    pub(crate) version: Version,
    pub(crate) bytes: Bytes,
}

/// The way to a file.
struct Link {
    to: To,
    /// One for each request that may be at work.
    permits: Semaphore,
}

enum To {
    Http(Http),
    Object(Object),
}

/// Without what the options and the URL say of secrets.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Remote");
        match &self.at {
            At::Far(far) => fields.field("url", &far.place.shown).field("version", &far.version),
            At::Near(file) => fields.field("file", file),
        };
        fields.field("stats", &self.counters.stats()).finish()
    }
}

impl Remote {
    /// Opens the file at `url`: one request, which says how long it is and which version of it this is.
    ///
    /// # Errors
    /// The URL or an option makes no sense, there is no such file, it is not for the caller, or the server gives no ranges.
    pub fn open(url: &str, options: &RemoteOptions) -> Result<Remote, RemoteError> {
        let place = Place::parse(url)?;
        options.check()?;
        let counters = Counters::default();
        if place.kind == Kind::File {
            let file =
                FileSource::open(&place.file_path()?).map_err(|error| RemoteError::Local(Arc::new(error)))?;
            return Ok(Remote { at: At::Near(file), counters });
        }
        let link = Arc::new(Link::new(&place, options, &counters)?);
        let first = {
            let link = link.clone();
            wait(async move {
                match &link.to {
                    To::Http(http) => http.first(FIRST_LEN).await,
                    To::Object(object) => object.first(FIRST_LEN).await,
                }
            })??
        };
        let several = AtomicU8::new(if place.kind == Kind::Http { UNKNOWN } else { NO });
        let far = Far {
            place,
            options: options.clone(),
            counters: counters.clone(),
            version: Arc::new(first.version),
            front: first.bytes,
            several,
            link: Mutex::new((process::id(), link)),
        };
        Ok(Remote { at: At::Far(Box::new(far)), counters })
    }

    /// What counts the requests, also when the file has gone into a reader.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }
}

impl Link {
    fn new(place: &Place, options: &RemoteOptions, counters: &Counters) -> Result<Link, RemoteError> {
        // Clients may look for the runtime that they are made in.
        let _inside = runtime()?.enter();
        let to = match place.kind {
            Kind::Http => To::Http(Http::new(place, options, counters)?),
            _ => To::Object(Object::new(&place.shown, place.store(options, counters)?)),
        };
        Ok(Link { to, permits: Semaphore::new(options.concurrency.max(1)) })
    }

    /// The bytes of spans that one request asks for; `None` if the server does not take so many.
    async fn fetch(
        &self,
        spans: &[Range<u64>],
        version: &Version,
    ) -> Result<Option<Vec<Bytes>>, RemoteError> {
        // It is never closed.
        let _permit = self.permits.acquire().await;
        match (&self.to, spans) {
            (To::Http(http), [span]) => Ok(Some(vec![http.one(span.clone(), version).await?])),
            (To::Http(http), spans) => http.several(spans, version).await,
            (To::Object(object), spans) => {
                let mut bytes = Vec::with_capacity(spans.len());
                for span in spans {
                    bytes.push(object.one(span.clone(), version).await?);
                }
                Ok(Some(bytes))
            }
        }
    }

    /// The same from a server that took several before. It may be many machines that are not all alike.
    async fn fetch_all(
        &self,
        spans: &[Range<u64>],
        version: &Version,
        counters: &Counters,
    ) -> Result<Vec<Bytes>, RemoteError> {
        if let Some(bytes) = self.fetch(spans, version).await? {
            return Ok(bytes);
        }
        counters.note_fallback();
        let mut bytes = Vec::with_capacity(spans.len());
        for span in spans {
            bytes.extend(self.fetch(std::slice::from_ref(span), version).await?.into_iter().flatten());
        }
        Ok(bytes)
    }
}

impl Far {
    fn link(&self) -> Result<Arc<Link>, RemoteError> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let here = process::id();
        if link.0 != here {
            let new = Arc::new(Link::new(&self.place, &self.options, &self.counters)?);
            // The former one has connections of the parent, whose end would be noticed there.
            std::mem::forget(std::mem::replace(&mut *link, (here, new)));
        }
        Ok(link.1.clone())
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), RemoteError> {
        let mut wanted = Vec::with_capacity(ranges.len());
        for (offset, into) in ranges.iter_mut() {
            let range = *offset..*offset + into.len() as u64;
            match self.in_front(&range) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => wanted.push((range, &mut **into)),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let link = self.link()?;
        let mut several = self.several.load(Ordering::Relaxed);
        let mut plan = self.plan(&wanted, several != NO);
        if several == UNKNOWN
            && let Some(probe) = plan.asks.iter().position(|ask| ask.len() > 1)
        {
            // One request finds out, before many are sent in vain.
            let ask = plan.asks.remove(probe);
            let spans = plan.spans[ask.clone()].to_vec();
            let (way, version) = (link.clone(), self.version.clone());
            several = match wait(async move { way.fetch(&spans, &version).await })?? {
                Some(bytes) => {
                    place(&plan, ask, &bytes, &mut wanted);
                    YES
                }
                None => {
                    self.counters.note_fallback();
                    plan = self.plan(&wanted, false);
                    NO
                }
            };
            self.several.store(several, Ordering::Relaxed);
        }
        self.fetch(&link, &plan, &mut wanted)
    }

    fn plan(&self, wanted: &[Wanted<'_>], several: bool) -> Plan {
        let rules = Rules { several, gap: self.options.gap, piece: self.options.piece };
        Plan::new(wanted.iter().map(|(range, _)| range.clone()), rules)
    }

    /// Sends the requests of a plan, some at a time, and places what they bring as it comes.
    fn fetch(&self, link: &Arc<Link>, plan: &Plan, wanted: &mut [Wanted<'_>]) -> Result<(), RemoteError> {
        let asks = plan.asks.iter().map(|ask| (ask.clone(), plan.spans[ask.clone()].to_vec()));
        let asks: Vec<(Range<usize>, Vec<Range<u64>>)> = asks.collect();
        let (send, receive) = channel();
        let (link, version, counters) = (link.clone(), self.version.clone(), self.counters.clone());
        let concurrency = self.options.concurrency.max(1);
        runtime()?.spawn(async move {
            let requests = asks.into_iter().map(|(ask, spans)| {
                let (link, version, counters) = (&link, &version, &counters);
                async move { (ask, link.fetch_all(&spans, version, counters).await) }
            });
            let mut answers = futures_util::stream::iter(requests).buffer_unordered(concurrency);
            while let Some(answer) = answers.next().await {
                // Nobody waits any longer: some other request failed.
                if send.send(answer).is_err() {
                    break;
                }
            }
        });
        for _ in &plan.asks {
            let (ask, bytes) = receive.recv().map_err(|_| lost())?;
            place(plan, ask, &bytes?, wanted);
        }
        Ok(())
    }

    /// The bytes of a range that came with the first request.
    fn in_front(&self, range: &Range<u64>) -> Option<&[u8]> {
        self.front.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }
}

/// A range that is wanted, and where its bytes go.
type Wanted<'a> = (Range<u64>, &'a mut [u8]);

/// Copies what the spans `ask` of a plan brought to whoever wants it.
fn place(plan: &Plan, ask: Range<usize>, bytes: &[Bytes], wanted: &mut [Wanted<'_>]) {
    for (span, bytes) in ask.zip(bytes) {
        let at_span = plan.spans[span].clone();
        for at in plan.wanted_of(span) {
            let (range, into) = &mut wanted[*at];
            let (start, end) = (range.start.max(at_span.start), range.end.min(at_span.end));
            let at = |of: &Range<u64>, offset: u64| usize::try_from(offset - of.start).expect("in memory");
            let from = &bytes[at(&at_span, start)..at(&at_span, end)];
            into[at(range, start)..at(range, end)].copy_from_slice(from);
        }
    }
}

impl ReadAt for Remote {
    fn len(&self) -> u64 {
        match &self.at {
            At::Far(far) => far.version.len,
            At::Near(file) => file.len(),
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SourceError> {
        self.read_ranges(&mut [(offset, into)])
    }

    fn read_ranges(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<(), SourceError> {
        let far = match &self.at {
            At::Far(far) => far,
            At::Near(file) => return file.read_ranges(ranges),
        };
        let file_len = far.version.len;
        let ends = |(offset, into): &(u64, &mut [u8])| (*offset, offset.saturating_add(into.len() as u64));
        if let Some((offset, end)) = ranges.iter().map(ends).find(|(_, end)| *end > file_len) {
            return Err(SourceError::Shrunk { offset, end, file_len });
        }
        let (offset, len) = ranges.iter().fold((u64::MAX, 0), |(first, len), (offset, into)| {
            (first.min(*offset), len + into.len() as u64)
        });
        far.read_ranges(ranges).map_err(|error| SourceError::Read { offset, len, cause: Arc::new(error) })
    }

    fn will_need(&self, range: Range<u64>) {
        if let At::Near(file) = &self.at {
            file.will_need(range);
        }
    }

    fn ahead_len(&self) -> u64 {
        match &self.at {
            At::Far(far) => far.options.piece.saturating_mul(far.options.concurrency.max(1) as u64),
            At::Near(_) => 0,
        }
    }
}
