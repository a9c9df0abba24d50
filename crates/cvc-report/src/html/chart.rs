//! Charts as inline SVG: shapes in a box of 1,000 by 1,000 that is stretched to its place, and text beside them that is not.

use std::fmt::Write;
use std::ops::Range;

use super::escape::text;
use super::number::{count, short_count, ticks, value};
use crate::histogram::Histogram;

/// The side of the box.
const BOX: f64 = 1000.0;

/// Columns that are drawn at most: more are put together.
const COLUMNS: usize = 480;

/// A chart without its shapes.
pub(super) struct Chart {
    pub(super) title: String,
    /// What stands on the axes, with its unit.
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Class and name of each series, if there is more than one.
    pub(super) key: Vec<(&'static str, &'static str)>,
    /// What must be said of it.
    pub(super) note: Option<String>,
    pub(super) wide: bool,
}

/// An axis: where its ticks are, from 0 to 1.
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `start` to `end`.
    pub(super) fn linear(title: impl Into<String>, start: f64, end: f64, whole: bool) -> Axis {
        let place = |tick: f64| (tick / 2.0 - start / 2.0) / (end / 2.0 - start / 2.0);
        let ticks = ticks(start, end, whole).into_iter().map(|(tick, name)| (place(tick), name)).collect();
        Axis { title: title.into(), ticks }
    }
}

impl Chart {
    /// The chart with these shapes in it.
    pub(super) fn draw(&self, shapes: &str) -> String {
        let mut html = String::new();
        let wide = if self.wide { " class=\"wide\"" } else { "" };
        let title = text(&self.title);
        let _ = writeln!(html, "<figure{wide}><figcaption>{title}</figcaption>");
        if !self.key.is_empty() {
            html += "<div class=\"key\">";
            for (class, name) in &self.key {
                let _ = write!(html, "<span><i class=\"{class}\"></i>{}</span>", text(name));
            }
            html += "</div>\n";
        }
        let _ = write!(
            html,
            "<div class=\"plot\"><div class=\"yt\">{}</div><div class=\"y\">",
            text(&self.y.title)
        );
        for (at, name) in &self.y.ticks {
            let _ = write!(html, "<span style=\"bottom:{}%\">{}</span>", short(at * 100.0), text(name));
        }
        let label = text(&format!("{}: {} by {}", self.title, self.y.title, self.x.title));
        let _ = write!(
            html,
            "</div><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
        );
        for (at, _) in &self.y.ticks {
            let _ = write!(html, "<path class=\"grid\" d=\"M0 {0}H1000\"/>", y(*at));
        }
        let _ = writeln!(html, "{shapes}</svg>{}</div>", x_axis(&self.x));
        if let Some(note) = &self.note {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", text(note));
        }
        html + "</figure>\n"
    }
}

/// Names under a chart, and what they are of.
pub(super) fn x_axis(axis: &Axis) -> String {
    let mut html = String::from("<div class=\"x\">");
    for (at, name) in &axis.ticks {
        // Names at the edges stay inside.
        let class = match at {
            ..0.02 => " class=\"left\"",
            0.98.. => " class=\"right\"",
            _ => "",
        };
        let _ = write!(html, "<span{class} style=\"left:{}%\">{}</span>", short(at * 100.0), text(name));
    }
    let _ = write!(html, "</div><div class=\"xt\">{}</div>", text(&axis.title));
    html
}

/// How counts become heights.
#[derive(Clone, Copy)]
enum Scale {
    Linear(f64),
    /// From half of one to this.
    Log(f64),
}

impl Scale {
    /// Logarithmic where the largest count would hide the least.
    fn of(counts: &[&[u64]]) -> Scale {
        let all = || counts.iter().flat_map(|counts| counts.iter()).copied().filter(|count| *count > 0);
        let (least, most) = (all().min().unwrap_or(1), all().max().unwrap_or(1));
        let top = most as f64;
        if most / least >= 100 { Scale::Log(top * 1.3) } else { Scale::Linear(top * 1.05) }
    }

    fn height(self, count: f64) -> f64 {
        match self {
            Scale::Linear(top) => count / top,
            Scale::Log(_) if count <= 0.0 => 0.0,
            Scale::Log(top) => (count / 0.5).log10() / (top / 0.5).log10(),
        }
    }

    fn axis(self, what: &str) -> Axis {
        match self {
            Scale::Linear(top) => {
                let ticks =
                    ticks(0.0, top, true).into_iter().map(|(tick, _)| (tick / top, short_count(tick)));
                Axis { title: format!("{what} in a bin"), ticks: ticks.collect() }
            }
            Scale::Log(top) => {
                // Every second power of ten where there are many.
                let step = if top > 1e6 { 2 } else { 1 };
                let powers =
                    (0..20).step_by(step).map(|power| 10f64.powi(power)).take_while(|power| *power <= top);
                let ticks = powers.map(|power| (self.height(power), short_count(power)));
                Axis { title: format!("{what} in a bin, log scale"), ticks: ticks.collect() }
            }
        }
    }
}

/// Counts in bins, of what the file decodes to and of the originals.
pub(super) fn histogram(
    title: &str,
    of: &str,
    what: &str,
    after: &Histogram,
    before: Option<&Histogram>,
) -> String {
    let bins = after.counts.len();
    let counts: Vec<&[u64]> =
        [Some(after), before].into_iter().flatten().map(|side| side.counts.as_slice()).collect();
    let scale = Scale::of(&counts);
    let heights = |side: &Histogram| -> Vec<f64> {
        side.counts.iter().map(|count| scale.height(*count as f64)).collect()
    };
    let mut shapes = area("area", &heights(after), None);
    if let Some(before) = before {
        shapes += &outline(&heights(before));
    }
    for bin in 0..bins {
        let bounds = bin_name(after, bin);
        let of = |name: &str, side: &Histogram| format!("{name}{} {what}", count(side.counts[bin]));
        let told = match before {
            Some(before) => format!("{bounds}: {}, {}", of("decoded ", after), of("original ", before)),
            None => format!("{bounds}: {}", of("", after)),
        };
        shapes += &hover(bin, bins, &told);
    }
    let mut x = Axis::linear(of, after.start, after.end, after.whole);
    if after.whole {
        // Numbers stand under the middle of their bin, where each has one.
        let width = (after.end - after.start) / bins as f64;
        if width == 1.0 {
            x.ticks.iter_mut().for_each(|(at, _)| *at += 0.5 / bins as f64);
            x.ticks.retain(|(at, _)| *at < 1.0);
        }
    }
    let outside: Vec<String> = [("decoded", Some(after)), ("original", before)]
        .into_iter()
        .filter_map(|(name, side)| side.filter(|side| side.below + side.above > 0).map(|side| (name, side)))
        .map(|(name, side)| {
            format!("{name}: {} below and {} above what is drawn", count(side.below), count(side.above))
        })
        .collect();
    let key = match before {
        Some(_) => vec![("after", "decoded"), ("before", "original")],
        None => vec![],
    };
    let note = (!outside.is_empty()).then(|| format!("Far out, of {what}: {}.", outside.join("; ")));
    Chart { title: title.into(), x, y: scale.axis(what), key, note, wide: false }.draw(&shapes)
}

fn bin_name(histogram: &Histogram, bin: usize) -> String {
    let (start, end) = (histogram.edge(bin), histogram.edge(bin + 1));
    match histogram.whole {
        true if end - start < 1.5 => value(start.round()),
        true => format!("{} to {}", value(start.round()), value(end.round() - 1.0)),
        false => format!("{} to {}", value(start), value(end)),
    }
}

/// Counts of named things, one bar each.
pub(super) fn bars(title: &str, of: &str, what: &str, names: &[String], counts: &[u64], log: bool) -> String {
    let scale = if log {
        Scale::of(&[counts])
    } else {
        Scale::Linear(counts.iter().copied().max().unwrap_or(0).max(1) as f64 * 1.05)
    };
    let mut shapes = String::new();
    let bars = counts.len();
    for (at, number) in counts.iter().enumerate() {
        let width = BOX / bars as f64;
        let top = y(scale.height(*number as f64));
        let (left, right) = (at as f64 * width + width * 0.1, (at + 1) as f64 * width - width * 0.1);
        if *number > 0 {
            let _ = write!(
                shapes,
                "<path class=\"area\" d=\"M{0} 1000V{top}H{1}V1000Z\"/>",
                short(left),
                short(right)
            );
        }
        shapes += &hover(at, bars, &format!("{}: {} {what}", names[at], count(*number)));
    }
    let every = bars.div_ceil(12);
    let ticks = names.iter().enumerate().filter(|(at, _)| at.is_multiple_of(every));
    let ticks = ticks.map(|(at, name)| ((at as f64 + 0.5) / bars as f64, name.clone())).collect();
    let mut y = scale.axis(what);
    y.title = y.title.replace(" in a bin", "");
    Chart {
        title: title.into(),
        x: Axis { title: of.into(), ticks },
        y,
        key: vec![],
        note: None,
        wide: false,
    }
    .draw(&shapes)
}

/// One figure for each of many things in a row, from 0 on; those that are put together show the largest.
pub(super) fn columns(
    title: &str,
    what: &str,
    one: &str,
    after: &[f64],
    before: Option<&[f64]>,
    key: &[(&'static str, &'static str)],
    wide: bool,
) -> String {
    let groups = groups(after.len());
    let largest = |side: &[f64]| -> Vec<f64> {
        groups.iter().map(|group| side[group.clone()].iter().copied().fold(f64::NAN, f64::max)).collect()
    };
    let after = largest(after);
    let before = before.map(largest);
    let all = after.iter().chain(before.iter().flatten()).copied().filter(|value| value.is_finite());
    let top = all.fold(0.0, f64::max).max(f64::MIN_POSITIVE * 1e10) * 1.05;
    let place = |side: &[f64]| side.iter().map(|value| (value / top).min(1.0)).collect::<Vec<f64>>();
    let mut shapes = area("area", &place(&after), None);
    if let Some(before) = &before {
        shapes += &steps("outline", &place(before));
    }
    for (at, group) in groups.iter().enumerate() {
        let mut told = format!("{}: {}", group_name(one, group), value(after[at]));
        if let (Some(before), [(_, after_name), (_, before_name)]) = (&before, key) {
            told = format!("{told} {after_name}, {} {before_name}", value(before[at]));
        }
        shapes += &hover(at, groups.len(), &told);
    }
    let count = groups.last().map_or(0, |group| group.end);
    let chart = Chart {
        title: title.into(),
        x: index_axis(one, count),
        y: Axis::linear(what, 0.0, top, false),
        key: key.to_vec(),
        note: together(&groups, one, "each column shows the largest of them"),
        wide,
    };
    chart.draw(&shapes)
}

/// What is drawn of one of many things in a row.
#[derive(Clone, Copy)]
pub(super) struct Band {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    pub(super) std: f64,
}

/// How each of many things in a row is spread.
pub(super) fn band(title: &str, what: &str, one: &str, bands: &[Band]) -> String {
    let groups = groups(bands.len());
    let columns: Vec<Band> = groups.iter().map(|group| joined(&bands[group.clone()])).collect();
    let finite = || columns.iter().filter(|band| band.min.is_finite() && band.max.is_finite());
    let low = finite().map(|band| band.min).fold(f64::INFINITY, f64::min);
    let high = finite().map(|band| band.max).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = match low < high {
        true => (low - (high / 40.0 - low / 40.0), high + (high / 40.0 - low / 40.0)),
        false if low.is_finite() => {
            (low - (low.abs() * 0.01).max(1e-300), low + (low.abs() * 0.01).max(1e-300))
        }
        false => (0.0, 1.0),
    };
    let (low, high) = (low.max(f64::MIN), high.min(f64::MAX));
    let place = |of: &dyn Fn(&Band) -> f64| -> Vec<f64> {
        let at = |value: f64| (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        columns.iter().map(|band| at(of(band))).collect()
    };
    let mut shapes = area("band", &place(&|band| band.max), Some(&place(&|band| band.min)));
    let (up, down) = (
        place(&|band| (band.mean + band.std).min(band.max)),
        place(&|band| (band.mean - band.std).max(band.min)),
    );
    shapes += &area("inner", &up, Some(&down));
    shapes += &steps("mean", &place(&|band| band.mean));
    for (at, group) in groups.iter().enumerate() {
        let Band { min, max, mean, std } = columns[at];
        let told = format!(
            "{}: mean {}, deviation {}, from {} to {}",
            group_name(one, group),
            value(mean),
            value(std),
            value(min),
            value(max)
        );
        shapes += &hover(at, groups.len(), &told);
    }
    let chart = Chart {
        title: title.into(),
        x: index_axis(one, bands.len()),
        y: Axis::linear(what, low, high, false),
        key: vec![
            ("band", "least to largest"),
            ("inner", "one standard deviation around the mean"),
            ("mean", "mean"),
        ],
        note: together(&groups, one, "a column shows the extremes of them and means of their figures"),
        wide: true,
    };
    chart.draw(&shapes)
}

fn joined(bands: &[Band]) -> Band {
    let finite = || bands.iter().filter(|band| band.min.is_finite());
    let count = finite().count() as f64;
    Band {
        min: finite().map(|band| band.min).fold(f64::NAN, f64::min),
        max: finite().map(|band| band.max).fold(f64::NAN, f64::max),
        mean: finite().map(|band| band.mean / count).sum::<f64>() / if count == 0.0 { 0.0 } else { 1.0 },
        std: finite().map(|band| band.std / count).sum::<f64>() / if count == 0.0 { 0.0 } else { 1.0 },
    }
}

/// So many things in at most [`COLUMNS`] groups of the same size, but for the last.
fn groups(count: usize) -> Vec<Range<usize>> {
    let size = count.div_ceil(COLUMNS).max(1);
    (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
}

fn group_name(one: &str, group: &Range<usize>) -> String {
    match group.len() {
        1 => format!("{one} {}", group.start),
        _ => format!("{one}s {} to {}", group.start, group.end - 1),
    }
}

fn together(groups: &[Range<usize>], one: &str, how: &str) -> Option<String> {
    let size = groups.first()?.len();
    (size > 1).then(|| format!("{size} {one}s are drawn together; {how}."))
}

/// Things numbered from 0, each as wide as the others.
fn index_axis(of: &str, count: usize) -> Axis {
    let last = count.saturating_sub(1) as f64;
    let mut names = ticks(0.0, last, true);
    if names.is_empty() {
        names = vec![(0.0, "0".into())];
    }
    let ticks = names.into_iter().map(|(tick, name)| ((tick + 0.5) / count.max(1) as f64, name)).collect();
    Axis { title: of.into(), ticks }
}

/// A filled shape between heights and others, or the floor. NaN leaves a gap.
fn area(class: &str, tops: &[f64], floors: Option<&[f64]>) -> String {
    let mut path = String::new();
    let columns = tops.len();
    for run in runs(tops) {
        let _ =
            write!(path, "M{} {}", x(run.start, columns), y(floors.map_or(0.0, |floors| floors[run.start])));
        for column in run.clone() {
            let _ = write!(path, "V{}H{}", y(tops[column]), x(column + 1, columns));
        }
        match floors {
            None => path += "V1000Z",
            Some(floors) => {
                for column in run.rev() {
                    let _ = write!(path, "V{}H{}", y(floors[column]), x(column, columns));
                }
                path.push('Z');
            }
        }
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}

/// A line of steps.
fn steps(class: &str, heights: &[f64]) -> String {
    let mut path = String::new();
    let columns = heights.len();
    for run in runs(heights) {
        let _ = write!(path, "M{} {}", x(run.start, columns), y(heights[run.start]));
        for column in run {
            let _ = write!(path, "V{}H{}", y(heights[column]), x(column + 1, columns));
        }
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}

/// A line around bars that stand on the floor, and nothing where there are none.
fn outline(heights: &[f64]) -> String {
    let shown: Vec<f64> =
        heights.iter().map(|height| if *height > 0.0 { *height } else { f64::NAN }).collect();
    let mut path = String::new();
    let columns = heights.len();
    for run in runs(&shown) {
        let _ = write!(path, "M{} 1000", x(run.start, columns));
        for column in run {
            let _ = write!(path, "V{}H{}", y(heights[column]), x(column + 1, columns));
        }
        path += "V1000";
    }
    format!("<path class=\"outline\" d=\"{path}\"/>")
}

/// Columns that follow each other and have a height.
fn runs(heights: &[f64]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for column in (0..heights.len()).filter(|column| !heights[*column].is_nan()) {
        match runs.last_mut() {
            Some(run) if run.end == column => run.end += 1,
            _ => runs.push(column..column + 1),
        }
    }
    runs
}

/// Where a pointer over a column is told what it shows.
fn hover(column: usize, columns: usize, told: &str) -> String {
    let left = column as f64 / columns as f64 * BOX;
    let width = short(BOX / columns as f64);
    format!(
        "<rect class=\"hover\" x=\"{}\" width=\"{width}\" height=\"1000\"><title>{}</title></rect>",
        short(left),
        text(told)
    )
}

fn x(column: usize, columns: usize) -> String {
    short(column as f64 / columns as f64 * BOX)
}

fn y(height: f64) -> String {
    short(BOX - height * BOX)
}

/// A coordinate, to two places.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_steps_with_gaps() {
        assert_eq!(area("a", &[0.5, 1.0], None), "<path class=\"a\" d=\"M0 1000V500H500V0H1000V1000Z\"/>");
        assert_eq!(
            area("a", &[0.5, f64::NAN], Some(&[0.25, f64::NAN])),
            "<path class=\"a\" d=\"M0 750V500H500V750H0Z\"/>"
        );
        assert_eq!(steps("s", &[f64::NAN, 1.0]), "<path class=\"s\" d=\"M500 0V0H1000\"/>");
        assert_eq!(area("a", &[], None), "<path class=\"a\" d=\"\"/>");
    }

    #[test]
    fn many_columns_are_put_together() {
        assert_eq!(groups(3), [0..1, 1..2, 2..3]);
        let groups = groups(1000);
        assert_eq!((groups.len(), groups[0].clone(), groups[333].clone()), (334, 0..3, 999..1000));
        assert_eq!(together(&groups, "dim", "so").unwrap(), "3 dims are drawn together; so.");
        assert_eq!([group_name("dim", &(4..5)), group_name("dim", &(4..8))], ["dim 4", "dims 4 to 7"]);
    }

    #[test]
    fn counts_that_differ_much_are_drawn_by_their_logarithm() {
        let scale = Scale::of(&[&[1, 1000]]);
        assert!(matches!(scale, Scale::Log(_)));
        assert!(scale.height(1.0) > 0.05 && scale.height(1000.0) < 1.0 && scale.height(0.0) == 0.0);
        assert!(matches!(Scale::of(&[&[0, 5, 9]]), Scale::Linear(_)));
        assert!(matches!(Scale::of(&[&[]]), Scale::Linear(_)));
    }
}
