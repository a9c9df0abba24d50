//! Files behind HTTP, asked for by ranges, several of them in one request where the server knows how.
//!
//! Every answer must be of the file that was opened: its validator (ETag, or else the date) goes with every request where
//! servers compare it, and it and the length are compared in every answer. What comes before a connection is cut is kept, and the
//! rest is asked for again.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode, Uri};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, HttpResponse,
};

use crate::counters::{Counters, Counting};
use crate::error::{RemoteError, chain};
use crate::multipart::{self, Broken, content_range, number};
use crate::options::{HEADER, RemoteOptions};
use crate::place::Place;
use crate::remote::{First, Version};

/// Waited before the first try again, and doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// No request lives longer, however steadily bytes come.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// A file behind HTTP.
pub(crate) struct Http {
    uri: Uri,
    /// As messages have it.
    url: String,
    client: HttpClient,
    retries: u32,
}

/// Why a try came to nothing.
enum Fault {
    /// Another may work.
    Again(String),
    Final(RemoteError),
}

impl Http {
    /// # Errors
    /// A setting that is unknown or makes no sense.
    pub(crate) fn new(
        place: &Place,
        options: &RemoteOptions,
        counters: &Counters,
    ) -> Result<Http, RemoteError> {
        let url = &place.shown;
        let uri = place
            .url
            .as_str()
            .parse()
            .map_err(|error: http::uri::InvalidUri| RemoteError::url(url, error.to_string()))?;
        let timeout = options.timeout;
        let mut client = ClientOptions::new()
            .with_user_agent(HeaderValue::from_static(concat!("cvc/", env!("CARGO_PKG_VERSION"))))
            .with_allow_http(place.url.scheme() == "http")
            .with_connect_timeout(timeout)
            .with_read_timeout(timeout)
            .with_timeout(LIFETIME);
        let mut headers = HeaderMap::new();
        for (key, value) in &options.settings {
            if let Some(name) = key.strip_prefix(HEADER) {
                // The value may be a secret, which no message tells.
                let wrong = |problem: &str| RemoteError::option(key, "(not shown)", problem);
                let name: HeaderName = name.parse().map_err(|_| wrong("this is no name of a header"))?;
                let value: HeaderValue = value.parse().map_err(|_| wrong("this is no value of a header"))?;
                headers.insert(name, value);
            } else {
                let known: ClientConfigKey = key.parse().map_err(|_| {
                    let problem =
                        "HTTP has no such option; it has allow_http, proxy_url, user_agent, header.NAME, ...";
                    RemoteError::option(key, "(not shown)", problem)
                })?;
                client = client.with_config(known, value);
            }
        }
        if !headers.is_empty() {
            client = client.with_default_headers(headers);
        }
        let client = Counting(counters.clone())
            .connect(&client)
            .map_err(|error| RemoteError::url(url, error.to_string()))?;
        Ok(Http { uri, url: url.clone(), client, retries: options.retries })
    }

    /// The first `len` bytes, or all if there are fewer, and which file they are of.
    pub(crate) async fn first(&self, len: u64) -> Result<First, RemoteError> {
        let mut tries = 0;
        loop {
            match self.try_first(len).await {
                Ok(first) => return Ok(first),
                Err(fault) => self.wait(fault, &mut tries).await?,
            }
        }
    }

    async fn try_first(&self, len: u64) -> Result<First, Fault> {
        let answer = self.send(&range_header(&[0..len]), None).await?;
        let header = |name| text(&answer, name).map(str::to_owned);
        let (e_tag, modified) = (header(ETAG), header(LAST_MODIFIED));
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let value = header(CONTENT_RANGE).unwrap_or_default();
                let (range, file_len) = match content_range(&value) {
                    Some((range, Some(file_len))) => (range, file_len),
                    _ => {
                        return Err(
                            self.nonsense(format!("Content-Range is {value:?}, so its length is not known"))
                        );
                    }
                };
                if range != (0..len.min(file_len)) {
                    return Err(
                        self.nonsense(format!("bytes 0..{len} were wanted, Content-Range is {value:?}"))
                    );
                }
                let version = Version { len: file_len, e_tag, modified };
                let bytes = self.body_of(answer, range.end).await?;
                Ok(First { version, bytes })
            }
            // No ranges, but all that was wanted.
            StatusCode::OK => {
                let file_len = header(CONTENT_LENGTH).and_then(|len| number(&len));
                match file_len {
                    Some(file_len) if file_len <= len => {
                        let bytes = self.body_of(answer, file_len).await?;
                        Ok(First { version: Version { len: file_len, e_tag, modified }, bytes })
                    }
                    _ => Err(Fault::Final(RemoteError::NoRanges { url: self.url.clone() })),
                }
            }
            // An empty file has no bytes from 0 on.
            StatusCode::RANGE_NOT_SATISFIABLE
                if header(CONTENT_RANGE).is_some_and(|value| value.replace(' ', "") == "bytes*/0") =>
            {
                Ok(First { version: Version { len: 0, e_tag, modified }, bytes: Bytes::new() })
            }
            _ => Err(self.refusal(&answer)),
        }
    }

    /// The bytes of one range, which is not empty and lies in the file.
    pub(crate) async fn one(&self, span: Range<u64>, version: &Version) -> Result<Bytes, RemoteError> {
        // As long as a piece at most.
        let mut got = Vec::with_capacity(to_usize(span.end - span.start));
        let mut tries = 0;
        loop {
            let rest = span.start + got.len() as u64..span.end;
            match self.try_one(rest, version, &mut got).await {
                Ok(()) => return Ok(got.into()),
                Err(fault) => self.wait(fault, &mut tries).await?,
            }
        }
    }

    /// Appends the bytes of `span` to `got`, or as many as come.
    async fn try_one(&self, span: Range<u64>, version: &Version, got: &mut Vec<u8>) -> Result<(), Fault> {
        let answer = self.send(&range_header(std::slice::from_ref(&span)), Some(version)).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => return Err(Fault::Final(RemoteError::NoRanges { url: self.url.clone() })),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let what = format!("it had {} bytes, now it has fewer", version.len);
                return Err(Fault::Final(RemoteError::changed(&self.url, what)));
            }
            _ => return Err(self.refusal(&answer)),
        }
        self.same(&answer, version)?;
        self.is_range(&answer, &span, version)?;
        self.read_body(answer, span.end - span.start, got).await
    }

    /// The bytes of several ranges, asked for together; `None` if the server does not answer so.
    pub(crate) async fn several(
        &self,
        spans: &[Range<u64>],
        version: &Version,
    ) -> Result<Option<Vec<Bytes>>, RemoteError> {
        let mut tries = 0;
        loop {
            match self.try_several(spans, version).await {
                Ok(parts) => return Ok(parts),
                Err(fault) => self.wait(fault, &mut tries).await?,
            }
        }
    }

    async fn try_several(
        &self,
        spans: &[Range<u64>],
        version: &Version,
    ) -> Result<Option<Vec<Bytes>>, Fault> {
        let answer = self.send(&range_header(spans), Some(version)).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // Servers are free to ignore a list of ranges, and some refuse it.
            StatusCode::OK
            | StatusCode::BAD_REQUEST
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.refusal(&answer)),
        }
        self.same(&answer, version)?;
        let content_type = text(&answer, CONTENT_TYPE).unwrap_or_default().to_owned();
        let Some(boundary) = multipart::boundary(&content_type) else {
            // One of them alone.
            return Ok(None);
        };
        let wanted: u64 = spans.iter().map(|span| span.end - span.start).sum();
        // Servers may make near ranges one, and have headers of their own for each part.
        let most = 2 * wanted + 4096 * (spans.len() as u64 + 1);
        let mut body = Vec::new();
        self.read_limited(answer, most, &mut body).await?;
        let parts = match multipart::parts(&body.into(), boundary, version.len) {
            Ok(parts) => parts,
            Err(Broken::Short) => return Err(Fault::Again("the answer ended before its last part".into())),
            Err(Broken::Wrong(problem)) => return Err(self.nonsense(problem)),
        };
        let each = spans.iter().map(|span| {
            let part =
                parts.iter().find(|part| part.range.start <= span.start && span.end <= part.range.end)?;
            let at = |offset: u64| to_usize(offset - part.range.start);
            Some(part.bytes.slice(at(span.start)..at(span.end)))
        });
        match each.collect() {
            Some(each) => Ok(Some(each)),
            None => {
                Err(self.nonsense("some of the ranges that were asked for are not among its parts".into()))
            }
        }
    }

    async fn send(&self, ranges: &str, version: Option<&Version>) -> Result<HttpResponse, Fault> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(RANGE, HeaderValue::from_str(ranges).expect("digits, commas and dashes"));
        if let Some(version) = version {
            let (name, value) = match (&version.e_tag, &version.modified) {
                // A weak one never matches.
                (Some(e_tag), _) if !e_tag.starts_with("W/") => (IF_MATCH, Some(e_tag)),
                (None, Some(modified)) => (IF_UNMODIFIED_SINCE, Some(modified)),
                _ => (IF_MATCH, None),
            };
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        self.client.execute(request).await.map_err(|error| Fault::Again(chain(&error)))
    }

    /// That an answer is of the file that was opened.
    fn same(&self, answer: &HttpResponse, version: &Version) -> Result<(), Fault> {
        for (name, known) in [(ETAG, &version.e_tag), (LAST_MODIFIED, &version.modified)] {
            if let (Some(now), Some(known)) = (text(answer, name.clone()), known) {
                if now != known {
                    let what = format!("{name}: it was {known}, now it is {now}");
                    return Err(Fault::Final(RemoteError::changed(&self.url, what)));
                }
                // The same ETag says more than any date.
                break;
            }
        }
        Ok(())
    }

    /// That an answer has exactly this range.
    fn is_range(&self, answer: &HttpResponse, span: &Range<u64>, version: &Version) -> Result<(), Fault> {
        let value = text(answer, CONTENT_RANGE).unwrap_or_default();
        let Some((range, file_len)) = content_range(value) else {
            return Err(self.nonsense(format!("Content-Range is {value:?}")));
        };
        if let Some(file_len) = file_len.filter(|file_len| *file_len != version.len) {
            let what = format!("it had {} bytes, now it has {file_len}", version.len);
            return Err(Fault::Final(RemoteError::changed(&self.url, what)));
        }
        if range != *span {
            let problem =
                format!("bytes {}..{} were wanted, Content-Range is {value:?}", span.start, span.end);
            return Err(self.nonsense(problem));
        }
        Ok(())
    }

    /// All of a body that has so many bytes.
    async fn body_of(&self, answer: HttpResponse, len: u64) -> Result<Bytes, Fault> {
        let mut bytes = Vec::new();
        self.read_body(answer, len, &mut bytes).await?;
        Ok(bytes.into())
    }

    /// Appends a body that has so many bytes, or as many of it as come.
    async fn read_body(&self, answer: HttpResponse, len: u64, into: &mut Vec<u8>) -> Result<(), Fault> {
        let before = into.len();
        self.read_limited(answer, len, into).await?;
        let came = (into.len() - before) as u64;
        if came < len {
            return Err(Fault::Again(format!("the answer ended after {came} of {len} bytes")));
        }
        Ok(())
    }

    async fn read_limited(&self, answer: HttpResponse, most: u64, into: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = most;
        let mut body = answer.into_body().bytes_stream();
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| Fault::Again(chain(&error)))?;
            left = match left.checked_sub(bytes.len() as u64) {
                Some(left) => left,
                None => return Err(self.nonsense(format!("it has more than {most} bytes"))),
            };
            into.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// What an answer says that brings nothing.
    fn refusal(&self, answer: &HttpResponse) -> Fault {
        let status = answer.status();
        let url = self.url.clone();
        let said = status.to_string();
        Fault::Final(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => RemoteError::Missing { url, said },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                RemoteError::Refused { url, said }
            }
            StatusCode::PRECONDITION_FAILED => {
                RemoteError::Changed { url, what: "its ETag or its date is another one".into() }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
                return Fault::Again(format!("the server said {said}"));
            }
            _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                return Fault::Again(format!("the server said {said}"));
            }
            _ => RemoteError::Answer { url, problem: format!("status {said}") },
        })
    }

    fn nonsense(&self, problem: String) -> Fault {
        Fault::Final(RemoteError::answer(&self.url, problem))
    }

    /// Waits before the next try, if there is one.
    async fn wait(&self, fault: Fault, tries: &mut u32) -> Result<(), RemoteError> {
        match fault {
            Fault::Final(error) => Err(error),
            Fault::Again(cause) => {
                *tries += 1;
                if *tries > self.retries {
                    return Err(RemoteError::Failed { url: self.url.clone(), tries: *tries, cause });
                }
                let factor = 1u32 << (*tries - 1).min(16);
                tokio::time::sleep((FIRST_WAIT * factor).min(LONGEST_WAIT)).await;
                Ok(())
            }
        }
    }
}

/// `bytes=0-9,20-29`
fn range_header(spans: &[Range<u64>]) -> String {
    let mut header = String::from("bytes=");
    for (at, span) in spans.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Ranges are not empty, and a `String` takes everything.
        let _ = write!(header, "{comma}{}-{}", span.start, span.end - 1);
    }
    header
}

fn text(answer: &HttpResponse, name: HeaderName) -> Option<&str> {
    answer.headers().get(name)?.to_str().ok()
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).expect("a piece fits in memory")
}
