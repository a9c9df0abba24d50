//! A bar on a terminal, nothing anywhere else.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A bar that counts rows to `rows`, if that is known, hidden where nobody looks at it. It goes when it is dropped.
pub(crate) fn rows(rows: impl Into<Option<u64>>, quiet: bool) -> ProgressBar {
    match rows.into() {
        Some(rows) => bar(Some(rows), "{bar:40} {human_pos} of {human_len} rows, {elapsed}", quiet),
        None => bar(None, "{spinner} {human_pos} rows, {elapsed}", quiet),
    }
}

/// The same for bytes that are read, where nobody knows how many there will be.
pub(crate) fn bytes(quiet: bool) -> ProgressBar {
    bar(None, "{spinner} {decimal_bytes} read, {elapsed}", quiet)
}

fn bar(len: Option<u64>, template: &str, quiet: bool) -> ProgressBar {
    let target = if quiet || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    let bar =
        ProgressBar::with_draw_target(len, target).with_style(style).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
