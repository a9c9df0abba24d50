//! Files that are named by URLs: how they are reached, and what that cost.

use std::path::Path;

use cvc::ReadAt;
use cvc::io::FileSource;

use crate::report::Failure;

#[cfg(feature = "remote")]
pub(crate) use with::{RemoteArgs, Upload, finish, without_secrets};
#[cfg(not(feature = "remote"))]
pub(crate) use without::{RemoteArgs, Upload, finish, without_secrets};

/// Whether it is a URL of any kind, rather than a path.
pub(crate) fn is_url(path: &Path) -> bool {
    path.to_str().and_then(|text| text.split_once("://")).is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

/// A path, or a URL without what may be a secret.
pub(crate) fn shown(path: &Path) -> String {
    let name = path.display().to_string();
    if is_url(path) { without_secrets(&name) } else { name }
}

impl RemoteArgs {
    /// Opens the file at a path or a URL.
    pub(crate) fn source(&self, path: &Path) -> Result<Box<dyn ReadAt>, Failure> {
        match path.to_str().filter(|_| is_url(path)) {
            Some(url) => self.far(url),
            None => Ok(Box::new(FileSource::open(path)?)),
        }
    }
}

#[cfg(feature = "remote")]
mod with {
    use std::cell::OnceCell;

    use cvc::ReadAt;
    use cvc_remote::{Counters, Remote, RemoteOptions};
    pub(crate) use cvc_remote::{Upload, shown as without_secrets};

    use crate::args::KeyValue;
    use crate::report::{Failure, to_stderr};

    /// What is said of files that are named by URLs.
    #[derive(Debug, clap::Args)]
    pub(crate) struct RemoteArgs {
        /// How to reach a file that is named by a URL (https, s3, gs, az, file): retries, timeout (seconds), concurrency, gap, piece (bytes),
        /// header.NAME for https, or an option of the store, as region or endpoint. Stores take credentials from the environment, too.
        #[arg(long, value_name = "KEY=VALUE")]
        remote: Vec<KeyValue>,
        /// Say on standard error what the requests for a URL were.
        #[arg(long)]
        stats: bool,
        #[arg(skip)]
        counters: OnceCell<Counters>,
    }

    /// Sends what is left of it, and makes it appear.
    pub(crate) fn finish(upload: Upload) -> Result<(), Failure> {
        upload.finish().map_err(Failure::Remote)
    }

    impl RemoteArgs {
        fn options(&self) -> Result<RemoteOptions, Failure> {
            let mut options = RemoteOptions::default();
            for pair in &self.remote {
                options.set(&pair.key, &pair.value).map_err(Failure::Remote)?;
            }
            Ok(options)
        }

        pub(super) fn far(&self, url: &str) -> Result<Box<dyn ReadAt>, Failure> {
            let remote = Remote::open(url, &self.options()?).map_err(Failure::Remote)?;
            // Of the first, which is the file that is worked on.
            self.counters.get_or_init(|| remote.counters());
            Ok(Box::new(remote))
        }

        /// Begins a file at a URL.
        pub(crate) fn upload(&self, url: &str) -> Result<Upload, Failure> {
            let upload = Upload::create(url, &self.options()?).map_err(Failure::Remote)?;
            self.counters.get_or_init(|| upload.counters());
            Ok(upload)
        }

        /// Says what the requests were, if that is wanted.
        pub(crate) fn report(&self) {
            if let Some(counters) = self.counters.get().filter(|_| self.stats) {
                to_stderr(&format!("stats: {}", counters.stats()));
            }
        }
    }
}

#[cfg(not(feature = "remote"))]
mod without {
    use std::io::{self, Write};

    use cvc::ReadAt;

    use crate::report::{Failure, wrong};

    /// Nothing can be said: this program reads no URLs.
    #[derive(Debug, clap::Args)]
    pub(crate) struct RemoteArgs {}

    /// What there is none of.
    pub(crate) enum Upload {}

    /// Whatever is not known to be harmless.
    pub(crate) fn without_secrets(url: &str) -> String {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        format!("{scheme}://...")
    }

    /// Makes it appear.
    pub(crate) fn finish(upload: Upload) -> Result<(), Failure> {
        match upload {}
    }

    impl Write for Upload {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            match *self {}
        }

        fn flush(&mut self) -> io::Result<()> {
            match *self {}
        }
    }

    impl RemoteArgs {
        pub(super) fn far(&self, url: &str) -> Result<Box<dyn ReadAt>, Failure> {
            self.upload(url).map(|never| match never {})
        }

        pub(crate) fn upload(&self, url: &str) -> Result<Upload, Failure> {
            Err(wrong(
                "FILE",
                without_secrets(url),
                "this program was built without the feature `remote`, so it knows no URLs",
            ))
        }

        pub(crate) fn report(&self) {}
    }
}
