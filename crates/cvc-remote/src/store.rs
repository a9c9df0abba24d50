//! Objects of a store, asked for by ranges, one in each request: that is what stores take.
//!
//! The crate `object_store` signs requests, sends them again, and goes on where a connection was cut.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _};

use crate::error::RemoteError;
use crate::remote::{First, Version};

/// An object.
pub(crate) struct Object {
    url: String,
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Object {
    pub(crate) fn new(url: &str, (store, path): (Arc<dyn ObjectStore>, Path)) -> Object {
        Object { url: url.to_owned(), store, path }
    }

    /// The first `len` bytes, or all if there are fewer, and which object they are of.
    pub(crate) async fn first(&self, len: u64) -> Result<First, RemoteError> {
        let range = Some(GetRange::Bounded(0..len));
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = match self.store.get_opts(&self.path, options).await {
            Ok(answer) => answer,
            Err(error) => {
                // An empty object has no bytes from 0 on, which stores say as an error.
                let version = match self.store.head(&self.path).await {
                    Ok(meta) if meta.size == 0 => Version { len: 0, e_tag: meta.e_tag, modified: None },
                    _ => return Err(RemoteError::of_store(&self.url, error)),
                };
                return Ok(First { version, bytes: Bytes::new() });
            }
        };
        let version = Version { len: answer.meta.size, e_tag: answer.meta.e_tag.clone(), modified: None };
        let wanted = 0..len.min(version.len);
        Ok(First { bytes: self.bytes(answer, &wanted).await?, version })
    }

    /// The bytes of one range, which is not empty and lies in the object.
    pub(crate) async fn one(&self, span: Range<u64>, version: &Version) -> Result<Bytes, RemoteError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(span.clone())),
            if_match: version.e_tag.clone(),
            ..GetOptions::default()
        };
        let answer = self.store.get_opts(&self.path, options).await;
        let answer = answer.map_err(|error| RemoteError::of_store(&self.url, error))?;
        if answer.meta.size != version.len {
            let what = format!("it had {} bytes, now it has {}", version.len, answer.meta.size);
            return Err(RemoteError::changed(&self.url, what));
        }
        if answer.meta.e_tag != version.e_tag {
            return Err(RemoteError::changed(&self.url, "its ETag is another one"));
        }
        self.bytes(answer, &span).await
    }

    async fn bytes(&self, answer: GetResult, span: &Range<u64>) -> Result<Bytes, RemoteError> {
        if answer.range != *span {
            let problem = format!("bytes {span:?} were wanted, these are {:?}", answer.range);
            return Err(RemoteError::answer(&self.url, problem));
        }
        let len = span.end - span.start;
        let mut bytes = Vec::new();
        let mut body = answer.into_stream();
        while let Some(more) = body.next().await {
            let more = more.map_err(|error| RemoteError::of_store(&self.url, error))?;
            if more.len() as u64 > len - bytes.len() as u64 {
                // The rest, however much it is, is not waited for.
                return Err(RemoteError::answer(&self.url, format!("it has more than {len} bytes")));
            }
            bytes.extend_from_slice(&more);
        }
        if bytes.len() as u64 != len {
            let problem = format!("it ended after {} of {len} bytes", bytes.len());
            return Err(RemoteError::answer(&self.url, problem));
        }
        Ok(bytes.into())
    }
}
