//! What was asked and what came, counted where every request passes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};

/// What reading or writing a file has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were sent, each try counted.
    pub requests: u64,
    /// Bytes that came back, without the heads of the answers.
    pub bytes_in: u64,
    /// Bytes that were sent, without the heads of the requests.
    pub bytes_out: u64,
    /// Requests for several ranges that the server did not answer so, after which each range is a request.
    pub fallbacks: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { requests, bytes_in, bytes_out, fallbacks } = self;
        write!(f, "{requests} requests, {bytes_in} bytes received, {bytes_out} bytes sent")?;
        if *fallbacks > 0 {
            write!(f, "; the server takes one range in a request")?;
        }
        Ok(())
    }
}

/// Counts for one file. It can be kept when the file has gone into a reader.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    fallbacks: AtomicU64,
}

impl Counters {
    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Inner { requests, bytes_in, bytes_out, fallbacks } = &*self.0;
        Stats {
            requests: of(requests),
            bytes_in: of(bytes_in),
            bytes_out: of(bytes_out),
            fallbacks: of(fallbacks),
        }
    }

    pub(crate) fn note_fallback(&self) {
        self.0.fallbacks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes clients whose requests are counted.
#[derive(Debug)]
pub(crate) struct Counting(pub(crate) Counters);

impl HttpConnector for Counting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The first provider of a process stays. If the program has one of its own, that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Counted { client, counters: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Counted {
    client: HttpClient,
    counters: Counters,
}

#[async_trait]
impl HttpService for Counted {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.counters.0.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.0.bytes_out.fetch_add(request.body().content_length() as u64, Ordering::Relaxed);
        let (parts, body) = self.client.execute(request).await?.into_parts();
        let counters = self.counters.clone();
        let body = body.map_frame(move |frame| {
            let len = frame.data_ref().map_or(0, bytes::Bytes::len);
            counters.0.bytes_in.fetch_add(len as u64, Ordering::Relaxed);
            frame
        });
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}
