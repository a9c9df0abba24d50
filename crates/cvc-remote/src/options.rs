//! How to ask: the same for every kind of place.

use std::fmt;
use std::time::Duration;

use crate::error::RemoteError;

/// Headers that the caller wants sent begin with this, among the settings.
pub(crate) const HEADER: &str = "header.";

/// How to reach a place, and how much to ask of it at once.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// What the place needs to know, as keys and values: those that the crate `object_store` has for the kind of store, as
    /// `region`, `endpoint`, `access_key_id`, `skip_signature`; and for all `allow_http`, `proxy_url`, `user_agent` and so on. For
    /// HTTP also `header.NAME`, a header to send, for instance with a token.
    pub settings: Vec<(String, String)>,
    /// How many times a request is sent again that failed for a reason that may go away.
    pub retries: u32,
    /// How long a server may be silent before a request has failed.
    pub timeout: Duration,
    /// How many requests are at work at a time.
    pub concurrency: usize,
    /// Bytes between two wanted ranges that are fetched along, to save a request, where each range is one.
    pub gap: u64,
    /// The most bytes that one request asks for, or sends; longer ranges are split.
    pub piece: u64,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        RemoteOptions {
            settings: Vec::new(),
            retries: 5,
            timeout: Duration::from_secs(30),
            concurrency: 8,
            gap: 64 << 10,
            piece: 8 << 20,
        }
    }
}

/// Of the settings the keys alone: values may be secrets.
impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RemoteOptions { settings, retries, timeout, concurrency, gap, piece } = self;
        let keys: Vec<&str> = settings.iter().map(|(key, _)| &**key).collect();
        f.debug_struct("RemoteOptions")
            .field("settings", &keys)
            .field("retries", retries)
            .field("timeout", timeout)
            .field("concurrency", concurrency)
            .field("gap", gap)
            .field("piece", piece)
            .finish()
    }
}

impl RemoteOptions {
    /// Sets what is called `key`: one of the fields, `timeout` in seconds, or else a setting of the place.
    ///
    /// # Errors
    /// The value of a field is no number, or one that makes no sense. Settings are looked at when a place is opened.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), RemoteError> {
        let number = |least: u64, most: u64, needs: &str| match value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(RemoteError::option(key, value, needs)),
        };
        match key {
            "retries" => {
                let retries = number(0, 1000, "a whole number up to 1,000 is needed")?;
                self.retries = u32::try_from(retries).unwrap_or(1000);
            }
            "timeout" => {
                let seconds = value.parse::<f64>().ok().filter(|seconds| (0.001..1e6).contains(seconds));
                let needs = "seconds are needed, as 30 or 0.5";
                self.timeout =
                    Duration::from_secs_f64(seconds.ok_or_else(|| RemoteError::option(key, value, needs))?);
            }
            "concurrency" => {
                let count = number(1, 1000, "a whole number from 1 to 1,000 is needed")?;
                self.concurrency = usize::try_from(count).unwrap_or(1000);
            }
            "gap" => self.gap = number(0, 1 << 40, "a number of bytes is needed")?,
            "piece" => self.piece = number(1 << 10, 1 << 30, "bytes from 1,024 to 1,073,741,824 are needed")?,
            _ => self.settings.push((key.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// What was set without [`set`](RemoteOptions::set), and would never come to an end.
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        if self.piece == 0 {
            return Err(RemoteError::option("piece", "0", "a request is for one byte at least"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_numbers_and_anything_else_is_for_the_place() {
        let mut options = RemoteOptions::default();
        for (key, value) in
            [("retries", "2"), ("timeout", "0.5"), ("concurrency", "3"), ("gap", "0"), ("piece", "2048")]
        {
            options.set(key, value).unwrap();
        }
        options.set("region", "hush").unwrap();
        let debug = format!("{options:?}");
        assert!(debug.contains("region") && !debug.contains("hush"), "{debug}");
        let RemoteOptions { settings, retries, timeout, concurrency, gap, piece } = &options;
        assert_eq!((*retries, *timeout, *concurrency), (2, Duration::from_millis(500), 3));
        assert_eq!((*gap, *piece, settings.len()), (0, 2048, 1));
        for (key, value) in [
            ("retries", "-1"),
            ("timeout", "0"),
            ("timeout", "NaN"),
            ("concurrency", "0"),
            ("piece", "9"),
            ("gap", "x"),
        ] {
            let error = options.set(key, value).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(key), "{error}");
        }
    }
}
