//! From a URL to what is asked for the file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::Url;

use crate::counters::{Counters, Counting};
use crate::error::RemoteError;
use crate::http::LIFETIME;
use crate::options::RemoteOptions;

/// What may stand before `://`, and which kind of place it means.
const SCHEMES: &[(&str, Kind)] = &[
    ("http", Kind::Http),
    ("https", Kind::Http),
    ("s3", Kind::S3),
    ("s3a", Kind::S3),
    ("gs", Kind::Google),
    ("az", Kind::Azure),
    ("abfs", Kind::Azure),
    ("abfss", Kind::Azure),
    ("file", Kind::File),
];

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    S3,
    Google,
    Azure,
    File,
}

/// Whether this is a URL that [`Remote`](crate::Remote) opens: of one of the schemes `https`, `http`, `s3`, `s3a`, `gs`, `az`,
/// `abfs`, `abfss` and `file`.
pub fn is_url(text: &str) -> bool {
    scheme(text).is_some()
}

fn scheme(text: &str) -> Option<Kind> {
    let (scheme, _) = text.split_once("://")?;
    SCHEMES.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
}

/// A URL as messages have it: without its query, its fragment, and names and passwords, any of which may be a secret. It need not make
/// sense. What has no `://` is a path, and stays as it is.
pub fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    // Behind the address in brackets, where a colon says nothing.
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    if after.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        // Part of a password with a slash or the like in it, perhaps.
        return format!("{scheme}://...");
    }
    match user {
        // A container, of `abfss://container@account.dfs.core.windows.net/key`.
        Some(user) if scheme.to_ascii_lowercase().starts_with("abfs") => {
            let container = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{container}@{host}{path}")
        }
        _ => format!("{scheme}://{host}{path}"),
    }
}

/// Where a file is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) url: Url,
    /// The URL as messages have it: without what may be a secret.
    pub(crate) shown: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

impl Place {
    /// # Errors
    /// The URL is none, or of a kind that is unknown.
    pub(crate) fn parse(text: &str) -> Result<Place, RemoteError> {
        let shown = shown(text);
        let Some(kind) = scheme(text) else {
            let schemes: Vec<&str> = SCHEMES.iter().map(|(name, _)| *name).collect();
            let problem = format!("this is no URL of a file; those begin with one of {}", schemes.join(", "));
            return Err(RemoteError::url(&shown, problem));
        };
        let mut url = Url::parse(text).map_err(|error| RemoteError::url(&shown, error.to_string()))?;
        // A container stands where a name would.
        let container = kind == Kind::Azure && url.scheme().starts_with("abfs");
        if (!url.username().is_empty() && !container) || url.password().is_some() {
            let problem = match kind {
                Kind::Http => {
                    "names and passwords do not belong into a URL; give the option header.Authorization"
                }
                _ => "names and passwords do not belong into a URL; give them as options",
            };
            return Err(RemoteError::url(&shown, problem));
        }
        if kind == Kind::Http {
            // It is for whoever reads the file, and never sent.
            url.set_fragment(None);
        } else if url.query().is_some() || url.fragment().is_some() {
            // They would be cut off, and another file be read or replaced.
            let problem = "what is behind ? or # is no part of a name; write %3F for ? and %23 for #";
            return Err(RemoteError::url(&shown, problem));
        }
        if matches!(kind, Kind::S3 | Kind::Google | Kind::Azure) && url.path().trim_matches('/').is_empty() {
            return Err(RemoteError::url(
                &shown,
                "it names no object; add its key, as in s3://bucket/key.cvc",
            ));
        }
        Ok(Place { kind, url, shown })
    }

    /// The path that a `file` URL names.
    pub(crate) fn file_path(&self) -> Result<PathBuf, RemoteError> {
        let problem = "it names no file of this machine; write file:///folder/name";
        self.url.to_file_path().map_err(|()| RemoteError::url(&self.shown, problem))
    }

    /// The store that the object is in, and its key.
    ///
    /// # Errors
    /// A setting that is unknown or makes no sense.
    pub(crate) fn store(
        &self,
        options: &RemoteOptions,
        counters: &Counters,
    ) -> Result<(Arc<dyn ObjectStore>, Path), RemoteError> {
        // One builder for each kind, all with the same methods.
        macro_rules! build {
            ($builder:ty, $key:ty) => {{
                let mut builder = <$builder>::from_env()
                    .with_url(self.url.as_str())
                    .with_http_connector(Counting(counters.clone()))
                    .with_retry(retry(options));
                for (key, value) in times(options) {
                    builder = builder.with_config(<$key>::Client(key), value);
                }
                for (key, value) in &options.settings {
                    let known: $key = key.parse().map_err(|_| {
                        // The value may be a secret, which no message tells.
                        RemoteError::option(key, "(not shown)", "this kind of store has no such option")
                    })?;
                    builder = builder.with_config(known, value);
                }
                builder.build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
            }};
        }
        let built = match self.kind {
            Kind::S3 => build!(AmazonS3Builder, AmazonS3ConfigKey),
            Kind::Google => build!(GoogleCloudStorageBuilder, GoogleConfigKey),
            Kind::Azure => build!(MicrosoftAzureBuilder, AzureConfigKey),
            Kind::Http | Kind::File => unreachable!("these are no stores"),
        };
        // A setting that is missing, or makes no sense.
        let store = built.map_err(|error| RemoteError::url(&self.shown, error.to_string()))?;
        let path = Path::from_url_path(self.url.path())
            .map_err(|error| RemoteError::url(&self.shown, error.to_string()))?;
        Ok((store, path))
    }
}

fn retry(options: &RemoteOptions) -> RetryConfig {
    RetryConfig {
        max_retries: options.retries as usize,
        retry_timeout: LIFETIME,
        backoff: BackoffConfig::default(),
    }
}

/// How long to wait for what, in the words of the crate.
fn times(options: &RemoteOptions) -> [(ClientConfigKey, String); 3] {
    let silent = format!("{} ms", options.timeout.as_millis());
    [
        (ClientConfigKey::ConnectTimeout, silent.clone()),
        (ClientConfigKey::ReadTimeout, silent),
        (ClientConfigKey::Timeout, format!("{} s", LIFETIME.as_secs())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["https://h/x", "s3://b/k", "S3A://b/k", "gs://b/k", "az://c/k", "file:///x"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["x.cvc", "/x", "C:\\x", "memory://x", "s3:/b/k", "://x"] {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn what_names_no_object_is_the_callers_fault_and_secrets_are_not_told() {
        for wrong in [
            "s3://bucket",
            "s3://bucket/",
            "gs:///",
            "ftp://h/x",
            "https://",
            "http://u:secret@h/x",
            "https://u:secret@h:99999/x?sig=secret",
            "https://u:secret/secret@h/x",
            "https://u:secret?secret@h/x",
            "https://u:secret\\secret@h/x",
            "https://h:99999/x?sig=secret#secret",
            "https://[::1/x?sig=secret",
            "ftp://u:secret@h/x?sig=secret",
            "no file://u:secret@h",
            "s3://u:secret@b/k",
            "s3://secret@b/k",
            "s3://b/k?sig=secret",
            "abfss://c:secret@h/k",
        ] {
            let error = Place::parse(wrong).unwrap_err();
            assert!(error.is_usage() && !format!("{error} {error:?}").contains("secret"), "{wrong}: {error}");
        }
        let signed = Place::parse("https://h/x.cvc?signature=secret#part").unwrap();
        assert_eq!(signed.shown, "https://h/x.cvc");
        assert_eq!(signed.url.as_str(), "https://h/x.cvc?signature=secret");
        assert!(!format!("{signed:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for plain in [
            "x@y?z#.cvc",
            "http://[::1]:80/a@b/x.cvc",
            "http://h:80/x",
            "s3://b/a@b:c/k.cvc",
            "abfss://c@a.dfs.core.windows.net/k",
            "file:///C:/x",
        ] {
            assert_eq!(shown(plain), plain);
        }
    }

    #[test]
    fn what_would_be_cut_off_the_name_of_an_object_is_refused() {
        for scheme in ["s3", "s3a", "gs", "az", "abfs", "file"] {
            for end in ["part#1.cvc", "k?versionId=3", "k?", "k#"] {
                let error = Place::parse(&format!("{scheme}://b/{end}")).unwrap_err();
                assert!(error.is_usage() && error.to_string().contains("%23"), "{scheme} {end}: {error}");
            }
        }
        let mut options = RemoteOptions::default();
        options.set("skip_signature", "true").unwrap();
        let place = Place::parse("s3://b/part%231%3F.cvc").unwrap();
        assert_eq!(place.store(&options, &Counters::default()).unwrap().1.as_ref(), "part#1?.cvc");
    }

    #[test]
    fn unknown_settings_are_named_and_their_values_are_not() {
        let mut options = RemoteOptions::default();
        options.set("secret_acces_key", "hush").unwrap();
        for url in ["s3://b/k", "gs://b/k", "az://c/k"] {
            let place = Place::parse(url).unwrap();
            let error = place.store(&options, &Counters::default()).unwrap_err().to_string();
            assert!(error.contains("secret_acces_key") && !error.contains("hush"), "{error}");
        }
    }
}
