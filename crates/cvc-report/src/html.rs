//! The page: what is in the file first, then one part for each array, then how the page was made.
//!
//! Everything that comes from the file goes through [`escape`]; the page has no script, loads nothing, and says so to the browser.

mod chart;
mod escape;
mod number;

use std::fmt::Write;

use cvc::format::json::Style;
use cvc::{ArrayDType, Coverage, Json, Layout, Loss};

use self::chart::{Axis, Band, bars, columns, histogram, short, x_axis};
use self::escape::{cut, text};
use self::number::{cosine, count, counted, precise, share, size, value};
use crate::dims::ranges;
use crate::facts::{ArrayReport, Content, FileFacts};
use crate::loss::{ErrorReport, MeasuredLoss};
use crate::measure::{Side, ValuesReport};
use crate::recall::{Recall, RecallOf};
use crate::sections::{SectionMap, shown};
use crate::strings::StringsReport;
use crate::{Made, Report, dims, strings};

/// Rows of a table; files may have a million sections or chunks.
const SHOWN: usize = 200;

/// Characters of a text from the file.
const TEXT: usize = 400;

/// What a dead dimension is.
const DEAD: &str = "dead (a standard deviation of at most a millionth of the median one)";

/// Colours of the map of sections.
const COLOURS: usize = 8;

/// The stretches that the map of sections is drawn of at most.
const STRETCHES: u64 = 1000;

/// Sections between which a line is drawn; between more, there would be only lines.
const APART: usize = 120;

pub(crate) fn page(report: &Report) -> String {
    let mut html = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    html += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n";
    let title = cut(&report.title, TEXT);
    let _ = write!(
        html,
        "<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        include_str!("html/style.css")
    );
    let _ = write!(html, "<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n", summary(report));
    html += &file(&report.file);
    if report.arrays.len() != 1 {
        html += &arrays(&report.arrays);
    }
    if let Some(map) = &report.sections {
        html += &sections(map);
    }
    for (number, array) in report.arrays.iter().enumerate() {
        html += &self::array(number, array, report.file.layout);
    }
    html += &made(&report.made, report);
    html + "</body>\n</html>\n"
}

fn summary(report: &Report) -> String {
    let mut parts = vec![format!("layout {}", report.file.layout), size(report.file.len)];
    parts.push(counted(report.arrays.len() as u64, "array"));
    if let Some(map) = &report.sections {
        let what = if map.of_file { "section" } else { "chunk" };
        let with = if map.of_file { "" } else { " with metadata" };
        parts.push(counted(map.sections.len() as u64, what) + with);
    }
    parts.join(", ")
}

fn file(file: &FileFacts) -> String {
    let mut facts = Facts::new();
    facts.add("Length", format!("{} bytes", count(file.len)));
    facts.add(
        "Checksums",
        match file.coverage {
            Coverage::Blocks => {
                format!("crc32c over every byte, by block; {} with rows", counted(file.checked, "block"))
            }
            Coverage::Chunks => {
                format!("crc32 over {}; none over the header", counted(file.checked, "chunk frame"))
            }
            _ => "none in this layout, so changed values cannot be seen".into(),
        },
    );
    if file.trailing_len > 0 {
        facts.add(
            "After the last chunk",
            format!("{} bytes, at which no reader looks", count(file.trailing_len)),
        );
    }
    facts.json("", &file.metadata);
    facts.finish()
}

/// One line for each array.
fn arrays(arrays: &[ArrayReport]) -> String {
    if arrays.is_empty() {
        return "<h2>Arrays</h2>\n<p>There are none.</p>\n".into();
    }
    let mut table =
        Table::new(&["Array", "Holds", "Codec", "#Stored", "#Smaller", "#Bytes a value", "#Largest error"]);
    for (number, array) in arrays.iter().enumerate() {
        let name = format!("<a href=\"#array-{number}\">{}</a>", cut(&array.name, TEXT));
        let error = match array.stored_loss {
            Some(Loss::NONE) => "exact".into(),
            Some(loss) => value(f64::from(loss.max_abs_error)),
            None => "\u{2013}".into(),
        };
        table.row(&[
            name,
            text(&holds(array)),
            text(&array.codec),
            size(array.stored_len),
            array.ratio().map_or("\u{2013}".into(), |ratio| format!("{ratio:.2} x")),
            array.bytes_per_value().map_or("\u{2013}".into(), value),
            error,
        ]);
    }
    format!("<h2>Arrays</h2>\n{}", table.finish())
}

/// `12,000 x 384 f32`
fn holds(array: &ArrayReport) -> String {
    let shape: Vec<String> = array.shape.iter().map(|len| count(*len)).collect();
    let shape = shape.join(" \u{d7} ");
    match array.dtype {
        ArrayDType::Utf8 => format!("{shape} strings"),
        dtype => format!("{shape} {dtype}"),
    }
}

fn array(number: usize, array: &ArrayReport, layout: Layout) -> String {
    let mut html = format!("<h2 id=\"array-{number}\">{}</h2>\n", cut(&array.name, TEXT));
    let mut facts = Facts::new();
    facts.add("Holds", text(&holds(array)));
    let mut codec = text(&array.codec);
    for (key, value) in array.params.as_object().into_iter().flatten() {
        let _ = write!(codec, ", {} {}", cut(&key.to_string(), TEXT), cut(&shown(value), TEXT));
    }
    if let Content::Values(values) = &array.content {
        let decoded = values.decoded_dtype;
        if array.dtype != ArrayDType::Values(decoded) {
            let _ = write!(codec, "; decodes to {decoded}");
        }
    }
    facts.add("Codec", codec);
    let mut stored = format!("{} in {}", size(array.stored_len), counted(array.chunks.len() as u64, "chunk"));
    if let Some(first) = array.chunks.first() {
        let rows = first.rows.end - first.rows.start;
        if array.chunks.len() > 1 {
            let _ = write!(stored, ", the first of {}", counted(rows, "row"));
        }
    }
    if let Some(rows) = array.block_rows {
        let _ = write!(stored, ", blocks of {}", counted(u64::from(rows), "row"));
    }
    facts.add("Stored", stored);
    if let (Some(ratio), Some(per_value)) = (array.ratio(), array.bytes_per_value()) {
        let decoded = match &array.content {
            Content::Values(values) => format!(" than as {}", values.decoded_dtype),
            _ => String::new(),
        };
        let compared = if (0.995..1.005).contains(&ratio) {
            format!("as large{}", decoded.replace(" than", ""))
        } else if ratio >= 1.0 {
            format!("{ratio:.2} \u{d7} smaller{decoded}")
        } else {
            format!("{:.2} \u{d7} larger{decoded}", 1.0 / ratio)
        };
        facts.add("Ratio", compared);
        let with = match layout {
            Layout::Native => "with parameters, heads and checksums",
            _ => "without what the header of the file says of it",
        };
        facts.add("Bytes a value", format!("{}, {with}", value(per_value)));
    }
    if let Some(provenance) = &array.provenance {
        facts.json("Provenance: ", provenance);
    }
    html += &facts.finish();
    match &array.content {
        Content::Values(values) => html += &self::values(array, values, layout),
        Content::Strings(strings) => html += &self::strings(strings),
        Content::NotAsked => {
            html += "<p class=\"soft\">Its rows were not looked at: another array was asked for.</p>\n"
        }
        Content::Unreadable(why) => {
            let _ = writeln!(html, "<p>This version of cvc cannot read its rows: {}</p>", cut(why, TEXT));
        }
    }
    html
}

fn values(array: &ArrayReport, values: &ValuesReport, layout: Layout) -> String {
    let mut html = loss(array, values.error.as_ref(), layout);
    if let Some(recall) = &array.recall {
        html += &self::recall(recall, array.rows);
    }
    html += "<h3>Values</h3>\n";
    if values.complex {
        html += "<p>Complex values are counted as two each: the real part, then the imaginary one.</p>\n";
    }
    if values.decoded.rows == 0 {
        return html + "<p>There are none.</p>\n";
    }
    // Of single numbers, the norm is but the absolute value.
    let norms = array.shape.len() > 1;
    html += &sides(values, norms);
    let original = values.original.as_ref();
    html += "<div class=\"charts\">\n";
    if values.decoded.finite > 0 || original.is_some_and(|original| original.finite > 0) {
        html += &histogram(
            "Histogram of the values",
            "value",
            "values",
            &values.decoded.histogram,
            original.map(|original| &original.histogram),
        );
    }
    if norms && values.decoded.norms.total() > 0 {
        html += &histogram(
            "Norms of the rows",
            "Euclidean norm of a row",
            "rows",
            &values.decoded.norms,
            original.map(|original| &original.norms),
        );
    }
    html += "</div>\n";
    html + &dimensions(values, array.rows)
}

/// What was lost, as the file says and as it was measured.
fn loss(array: &ArrayReport, errors: Option<&ErrorReport>, layout: Layout) -> String {
    let mut html = String::from("<h3>What encoding lost</h3>\n");
    let mut head = vec!["", "#Largest error", "#Mean square error", "#Least cosine"];
    if errors.is_some() {
        head.extend(["#Mean cosine", "#NaN or infinity not back"]);
    }
    let mut table = Table::new(&head);
    if let Some(loss) = array.stored_loss {
        let Loss { max_abs_error, mse, min_cosine } = loss;
        let mut cells = vec![
            "when it was packed".into(),
            value(f64::from(max_abs_error)),
            value(f64::from(mse)),
            cosine(f64::from(min_cosine)),
        ];
        if errors.is_some() {
            cells.extend(["\u{2013}".to_owned(), "\u{2013}".to_owned()]);
        }
        table.row(&cells);
    }
    if let Some(errors) = errors {
        let MeasuredLoss { max_abs_error, mse, min_cosine, not_back, .. } = errors.total;
        table.row(&[
            "against the originals".into(),
            value(max_abs_error),
            value(mse),
            cosine(min_cosine),
            cosine(errors.mean_cosine),
            count(not_back),
        ]);
    }
    let exact = array.stored_loss == Some(Loss::NONE)
        && errors.is_none_or(|errors| errors.total.max_abs_error == 0.0 && errors.total.not_back == 0);
    if exact {
        html += "<p>Nothing: every bit comes back.</p>\n";
    } else if array.stored_loss.is_none() && errors.is_none() {
        html += match layout {
            Layout::Native => "<p>The file does not say, and the originals were not given.</p>\n",
            _ => "<p>Files of this layout do not say, and the originals were not given.</p>\n",
        };
    }
    if !table.is_empty() && (!exact || errors.is_some()) {
        html += &table.finish();
    }
    html += "<div class=\"charts\">\n";
    if let Some(errors) = errors.filter(|errors| errors.total.max_abs_error > 0.0) {
        html += &histogram("Errors", "decoded less original value", "values", &errors.histogram, None);
    }
    if array.chunks.len() > 1 && !exact {
        html += &chunk_charts(array, errors);
    }
    html += "</div>\n";
    if array.chunks.len() > 1 {
        html += &chunk_table(array, errors);
    }
    html
}

fn chunk_charts(array: &ArrayReport, errors: Option<&ErrorReport>) -> String {
    let stored = |of: fn(&Loss) -> f64| -> Option<Vec<f64>> {
        let all = array.chunks.iter().map(|chunk| chunk.stored_loss.as_ref().map_or(f64::NAN, of));
        let all: Vec<f64> = all.collect();
        all.iter().any(|value| !value.is_nan()).then_some(all)
    };
    let measured =
        |of: fn(&MeasuredLoss) -> f64| errors.map(|errors| errors.chunks.iter().map(of).collect::<Vec<_>>());
    let mut html = String::new();
    let mut draw = |title: &str, what: &str, stored: Option<Vec<f64>>, measured: Option<Vec<f64>>| {
        const BOTH: [(&str, &str); 2] = [("after", "measured"), ("before", "when packed")];
        html += &match (&measured, &stored) {
            (Some(measured), stored) => {
                let key = if stored.is_some() { BOTH.as_slice() } else { &[] };
                columns(title, what, "chunk", measured, stored.as_deref(), key, false)
            }
            (None, Some(stored)) => columns(title, what, "chunk", stored, None, &[], false),
            (None, None) => return,
        };
    };
    draw(
        "Largest error by chunk",
        "absolute difference",
        stored(|loss| f64::from(loss.max_abs_error)),
        measured(|loss| loss.max_abs_error),
    );
    draw(
        "Mean square error by chunk",
        "mean of squared differences",
        stored(|loss| f64::from(loss.mse)),
        measured(|loss| loss.mse),
    );
    draw(
        "Least cosine by chunk",
        "1 less the least cosine of a row",
        stored(|loss| 1.0 - f64::from(loss.min_cosine)),
        measured(|loss| 1.0 - loss.min_cosine),
    );
    html
}

fn chunk_table(array: &ArrayReport, errors: Option<&ErrorReport>) -> String {
    let mut table = Table::new(&[
        "#Chunk",
        "#From row",
        "#Rows",
        "#Bytes",
        "Codec",
        "#Largest error",
        "#Mean square error",
        "#Least cosine",
    ]);
    for (number, chunk) in array.chunks.iter().enumerate().take(SHOWN) {
        let figures = match (errors.and_then(|errors| errors.chunks.get(number)), chunk.stored_loss) {
            (Some(loss), _) => [value(loss.max_abs_error), value(loss.mse), cosine(loss.min_cosine)],
            (None, Some(loss)) => [
                value(f64::from(loss.max_abs_error)),
                value(f64::from(loss.mse)),
                cosine(f64::from(loss.min_cosine)),
            ],
            (None, None) => ["\u{2013}".into(), "\u{2013}".into(), "\u{2013}".into()],
        };
        let [max, mse, least] = figures;
        table.row(&[
            count(number as u64),
            count(chunk.rows.start),
            count(chunk.rows.end - chunk.rows.start),
            count(chunk.stored_len),
            text(&chunk.codec),
            max,
            mse,
            least,
        ]);
    }
    let more = and_more(array.chunks.len());
    format!("<details><summary>Chunks in figures</summary>\n{}{more}</details>\n", table.finish())
}

fn and_more(items: usize) -> String {
    match items.checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(more) => {
            format!("<p class=\"note\">and {} more; --json lists them all</p>\n", count(more as u64))
        }
    }
}

fn recall(recall: &Recall, rows: u64) -> String {
    let k = recall.k;
    let mut html = format!("<h3>Recall@{k}</h3>\n");
    let _ = writeln!(
        html,
        "<p>Of the {k} nearest original rows, the part that is found among the decoded ones, for {} of {} rows as queries. \
         The query is the original row, which is no neighbour of its own; of rows that are equally near, any will do.</p>",
        count(recall.queries.len() as u64),
        count(rows),
    );
    let mut table = Table::new(&["Nearest by", "#Recall", "#Queries", "#that found all"]);
    for (name, of) in [("cosine", &recall.cosine), ("Euclidean distance", &recall.l2)] {
        let RecallOf { queries, mean, by_found } = of;
        let mean = if mean.is_nan() { "\u{2013}".into() } else { format!("{mean:.4}") };
        let all = by_found.last().copied().unwrap_or(0);
        table.row(&[
            name.into(),
            mean,
            count(*queries),
            format!("{} ({})", count(all), share(all, *queries)),
        ]);
    }
    html += &table.finish();
    html += "<div class=\"charts\">\n";
    let names: Vec<String> = (0..=k).map(|found| found.to_string()).collect();
    for (name, of) in [("cosine", &recall.cosine), ("Euclidean distance", &recall.l2)] {
        if of.queries > 0 {
            let title = format!("Neighbours found, by {name}");
            html += &bars(&title, &format!("found of {k}"), "queries", &names, &of.by_found, false);
        }
    }
    html + "</div>\n"
}

/// Both sides in figures.
fn sides(values: &ValuesReport, norms: bool) -> String {
    let mut head = vec!["", "#Decoded"];
    if values.original.is_some() {
        head.push("#Original");
    }
    let mut table = Table::new(&head);
    let mut row = |name: &str, of: &dyn Fn(&Side) -> String| {
        let cells = [Some(&values.decoded), values.original.as_ref()].into_iter().flatten().map(of);
        table.row(&std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>());
    };
    row("finite values", &|side| count(side.finite));
    row("NaN", &|side| count(side.nan));
    row("infinities", &|side| count(side.infinite));
    row("rows with a NaN or an infinity", &|side| count(side.nonfinite_rows));
    row("rows of zeros", &|side| count(side.zero_rows));
    row("least value", &|side| value(side.min));
    row("largest value", &|side| value(side.max));
    row("mean", &|side| value(side.mean));
    row("standard deviation", &|side| value(side.std));
    if norms {
        row("least norm of a row", &|side| precise(side.min_norm));
        row("mean norm", &|side| precise(side.mean_norm));
        row("largest norm", &|side| precise(side.max_norm));
    }
    table.finish()
}

fn dimensions(values: &ValuesReport, rows: u64) -> String {
    let found = &values.decoded.dims;
    let one = if values.complex { "part" } else { "dimension" };
    if found.len() == 1 {
        return String::new();
    }
    let mut html = String::from("<h3>Dimensions</h3>\n");
    if found.is_empty() {
        let _ = writeln!(
            html,
            "<p>There are more than {}, so they were not looked at one by one.</p>",
            count(dims::MOST)
        );
        return html;
    }
    let of = counted(found.len() as u64, one);
    let mut say = |which: &[usize], of: &str, what: &str| {
        if !which.is_empty() {
            let is = if which.len() == 1 { "is" } else { "are" };
            let _ =
                writeln!(html, "<p>{} of {of} {is} {what}: {}.</p>", count(which.len() as u64), names(which));
        }
    };
    if let Some(original) = &values.original {
        say(&original.dead, &format!("{of} of the originals"), DEAD);
    }
    say(&values.decoded.dead, &format!("{of}, decoded,"), DEAD);
    let drowned =
        "drowned by the error of encoding (a standard deviation of at most twice its root mean square)";
    say(&values.drowned, &format!("{of}, decoded,"), drowned);
    let original_dead = values.original.as_ref().map_or(0, |original| original.dead.len());
    if rows > 1 && values.decoded.dead.len() + values.drowned.len() + original_dead == 0 {
        let _ = writeln!(html, "<p>Every {one} tells rows apart.</p>");
    }
    if found.len() > 1 {
        let bands: Vec<Band> = found
            .iter()
            .map(|dim| Band { min: dim.min, max: dim.max, mean: dim.mean, std: dim.std })
            .collect();
        html += "<div class=\"charts\">\n";
        html += &chart::band("Spread of each dimension, decoded", "value", one, &bands);
        if let Some(errors) = values.error.as_ref().filter(|errors| errors.total.max_abs_error > 0.0) {
            let title = "Error of each dimension";
            html += &columns(title, "root of the mean square error", one, &errors.dims, None, &[], true);
        }
        html += "</div>\n";
    }
    html
}

/// `3, 17 to 20`
fn names(dims: &[usize]) -> String {
    let (ranges, left_out) = ranges(dims, 40);
    let names = ranges.iter().map(|range| match range.len() {
        1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end - 1),
    });
    let mut names = names.collect::<Vec<_>>().join(", ");
    if left_out > 0 {
        let _ = write!(names, " and {} more", count(left_out as u64));
    }
    names
}

fn strings(found: &StringsReport) -> String {
    let mut html = String::from("<h3>Strings</h3>\n");
    if found.count == 0 {
        return html + "<p>There are none.</p>\n";
    }
    let mut table = Table::new(&["", "#"]);
    let mean = found.total_len as f64 / found.count as f64;
    for (name, figure) in [
        ("strings", count(found.count)),
        ("of no characters", count(found.empty)),
        ("bytes of all, in UTF-8", count(found.total_len)),
        ("bytes of the shortest", count(found.min_len)),
        ("mean", value(mean)),
        ("bytes of the longest", count(found.max_len)),
    ] {
        table.row(&[name.into(), figure]);
    }
    html += &table.finish();
    let names: Vec<String> = (0..found.counts.len())
        .map(|bin| match strings::bin(bin) {
            (start, end) if end - start == 1 => count(start),
            (start, end) => format!("{}\u{2013}{}", count(start), count(end - 1)),
        })
        .collect();
    html += "<div class=\"charts\">\n";
    html += &bars("Lengths", "bytes of a string", "strings", &names, &found.counts, true);
    html + "</div>\n"
}

fn sections(map: &SectionMap) -> String {
    let mut html =
        String::from(if map.of_file { "<h2>Sections</h2>\n" } else { "<h2>Chunks with metadata</h2>\n" });
    if let Some(key) = &map.key {
        let _ = writeln!(
            html,
            "<p>Coloured by <b>{}</b>, which has {}.</p>",
            cut(key, TEXT),
            counted(map.values.len() as u64, "value")
        );
    }
    html += "<figure class=\"map\"><div class=\"plot\">";
    let _ = write!(
        html,
        "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Rows of each section\">\
         <rect class=\"vn\" width=\"1000\" height=\"1000\"/>{}</svg>",
        stretches(map)
    );
    html += &x_axis(&Axis::linear("row", 0.0, map.rows.max(1) as f64, true));
    html += "</div>\n";
    if map.sections.len() as u64 > STRETCHES {
        let _ = writeln!(
            html,
            "<p class=\"note\">The bar has {} stretches; each shows what the row in its middle belongs to.</p>",
            count(STRETCHES)
        );
    }
    html += "</figure>\n";
    html += &legend(map);
    let mut table = Table::new(&["", "#From row", "#Rows", "#Share", "Metadata"]);
    for section in map.sections.iter().take(SHOWN) {
        let rows = section.rows.end - section.rows.start;
        let metadata = cut(&section.metadata.to_string_styled(Style::Compact), TEXT);
        table.row(&[
            format!("<i class=\"swatch {}\"></i>", colour(section.value)),
            count(section.rows.start),
            count(rows),
            share(rows, map.rows),
            metadata,
        ]);
    }
    let table = table.finish() + &and_more(map.sections.len());
    match map.sections.len() {
        ..=12 => html + &table,
        all => {
            let what = if map.of_file { "sections" } else { "chunks" };
            html + &format!(
                "<details><summary>All {} {what}</summary>\n{table}</details>\n",
                count(all as u64)
            )
        }
    }
}

/// The class of a value.
fn colour(value: Option<usize>) -> String {
    match value {
        None => "vo".into(),
        Some(number) if number < COLOURS => format!("v{number}"),
        Some(_) => "vo".into(),
    }
}

/// The bar: each section, or, of more than can be seen, what the row in the middle of each stretch belongs to.
fn stretches(map: &SectionMap) -> String {
    let mut shapes = String::new();
    let part = if map.sections.len() <= APART { "part" } else { "thin" };
    let mut draw = |start: f64, end: f64, value: Option<usize>, told: &str| {
        let (x, width) = (start / map.rows as f64 * 1000.0, (end - start) / map.rows as f64 * 1000.0);
        let class = colour(value);
        let _ = write!(
            shapes,
            "<rect class=\"{part} {class}\" x=\"{}\" width=\"{}\" height=\"1000\"><title>{}</title></rect>",
            short(x),
            format_args!("{width:.3}"),
            text(told)
        );
    };
    let name = |value: Option<usize>| value.map_or("\u{2013}", |value| map.values[value].0.as_str());
    let shown = map.sections.iter().filter(|section| !section.rows.is_empty());
    if map.sections.len() as u64 <= STRETCHES {
        for section in shown {
            let told = format!(
                "{}: rows {} to {}",
                brief(name(section.value)),
                count(section.rows.start),
                count(section.rows.end - 1)
            );
            draw(section.rows.start as f64, section.rows.end as f64, section.value, &told);
        }
        return shapes;
    }
    let mut sorted: Vec<_> = shown.collect();
    sorted.sort_by_key(|section| section.rows.start);
    let edge = |number: u64| {
        u64::try_from(u128::from(map.rows) * u128::from(number) / u128::from(STRETCHES))
            .expect("at most all rows")
    };
    // Stretches that follow each other and are of one value are one shape.
    let mut stretch: Option<(u64, u64, Option<usize>)> = None;
    let mut end_of = |stretch: Option<(u64, u64, Option<usize>)>| {
        if let Some((start, end, value)) = stretch {
            draw(start as f64, end as f64, value, brief(name(value)));
        }
    };
    for number in 0..STRETCHES {
        let (start, end) = (edge(number), edge(number + 1));
        let middle = start + (end - start) / 2;
        let at = sorted.partition_point(|section| section.rows.end <= middle);
        let section = sorted.get(at).filter(|section| section.rows.contains(&middle));
        match (&mut stretch, section) {
            (Some((_, last, value)), Some(section)) if *last == start && *value == section.value => {
                *last = end
            }
            _ => end_of(std::mem::replace(&mut stretch, section.map(|section| (start, end, section.value)))),
        }
    }
    end_of(stretch);
    shapes
}

/// A value for where there is little room.
fn brief(value: &str) -> &str {
    value.char_indices().nth(80).map_or(value, |(end, _)| &value[..end])
}

fn legend(map: &SectionMap) -> String {
    let mut table = Table::new(&["", "Value", "#Rows", "#Share"]);
    let mut entry = |class: &str, name: String, rows: u64| {
        table.row(&[format!("<i class=\"swatch {class}\"></i>"), name, count(rows), share(rows, map.rows)]);
    };
    for (number, (value, rows)) in map.values.iter().take(COLOURS).enumerate() {
        entry(&format!("v{number}"), cut(value, TEXT), *rows);
    }
    let others = map.values.iter().skip(COLOURS);
    let said = map.sections.iter().filter(|section| section.value.is_none());
    let silent = said.map(|section| section.rows.end - section.rows.start).fold(0u64, u64::saturating_add);
    let rest = others.clone().map(|(_, rows)| *rows).fold(silent, u64::saturating_add);
    let name = match (others.count(), silent) {
        (0, 0) => None,
        (0, _) => Some("without the key".to_owned()),
        (more, 0) => Some(format!("{} more values", count(more as u64))),
        (more, _) => Some(format!("{} more values, or without the key", count(more as u64))),
    };
    if let Some(name) = name {
        entry("vo", name, rest);
    }
    let covered = map.values.iter().map(|(_, rows)| *rows).fold(silent, u64::saturating_add);
    if covered < map.rows {
        let what = if map.of_file { "in no section" } else { "in chunks without metadata" };
        entry("vn", what.into(), map.rows - covered);
    }
    table.finish()
}

fn made(made: &Made, report: &Report) -> String {
    let mut facts = Facts::new();
    facts.add("Made by", format!("cvc {}, command report", made.version));
    facts.add("Array", made.array.as_ref().map_or("all of them".into(), |name| cut(name, TEXT)));
    let against: Vec<String> = made.originals.iter().map(|name| cut(name, TEXT)).collect();
    facts.add("Originals", if against.is_empty() { "not given".into() } else { against.join(", ") });
    facts.add(
        "Coloured by",
        made.by.as_ref().map_or("the key that most sections have".into(), |key| cut(key, TEXT)),
    );
    let measured = report.arrays.iter().any(|array| array.recall.is_some());
    facts.add(
        "Queries",
        match (measured, made.sample) {
            (true, sample) => format!("{} at most, drawn with seed {}", count(sample), made.seed),
            (false, _) => "none: recall was not measured".into(),
        },
    );
    facts.add(
        "Figures",
        "over all rows, decoded on the processor, in double precision; two passes. Only recall is measured on a sample. The same \
         file and options give the same page."
            .into(),
    );
    format!("<h2>How this page was made</h2>\n{}", facts.finish())
}

/// Names and what belongs to them, which is HTML.
struct Facts(String);

impl Facts {
    fn new() -> Facts {
        Facts("<dl>\n".into())
    }

    fn add(&mut self, name: &str, html: String) {
        let _ = writeln!(self.0, "<dt>{}</dt><dd>{html}</dd>", text(name));
    }

    /// The pairs of an object from the file, names prefixed.
    fn json(&mut self, prefix: &str, object: &Json) {
        let pairs = object.as_object().unwrap_or_default();
        for (key, value) in pairs.iter().take(SHOWN) {
            let key = key.to_string();
            let _ = writeln!(
                self.0,
                "<dt>{}{}</dt><dd>{}</dd>",
                text(prefix),
                cut(&key, TEXT),
                cut(&shown(value), TEXT)
            );
        }
        if pairs.len() > SHOWN {
            self.add("", format!("and {} more; --json lists them all", count((pairs.len() - SHOWN) as u64)));
        }
    }

    fn finish(self) -> String {
        self.0 + "</dl>\n"
    }
}

/// A table whose cells are HTML. Columns whose heading begins with `#` are of numbers.
struct Table {
    numbers: Vec<bool>,
    html: String,
    rows: usize,
}

impl Table {
    fn new(head: &[&str]) -> Table {
        let mut html = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        let numbers: Vec<bool> = head.iter().map(|name| name.starts_with('#')).collect();
        for (name, number) in head.iter().zip(&numbers) {
            let class = if *number { " class=\"n\"" } else { "" };
            let _ = write!(html, "<th{class}>{}</th>", text(name.trim_start_matches('#')));
        }
        html += "</tr></thead>\n<tbody>\n";
        Table { numbers, html, rows: 0 }
    }

    fn row(&mut self, cells: &[String]) {
        self.rows += 1;
        self.html += "<tr>";
        for (cell, number) in cells.iter().zip(&self.numbers) {
            let class = match number {
                true => " class=\"n\"",
                false if cell.len() > 60 => " class=\"long\"",
                false => "",
            };
            let _ = write!(self.html, "<td{class}>{cell}</td>");
        }
        self.html += "</tr>\n";
    }

    fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn finish(self) -> String {
        self.html + "</tbody></table></div>\n"
    }
}
