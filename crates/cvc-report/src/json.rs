//! The figures for other programs.

use cvc::format::json::Number;
use cvc::{Coverage, Json, Loss};

use crate::facts::{ArrayReport, Content, FileFacts};
use crate::histogram::Histogram;
use crate::loss::{ErrorReport, MeasuredLoss};
use crate::measure::{Side, ValuesReport};
use crate::recall::{Recall, RecallOf};
use crate::sections::SectionMap;
use crate::{Made, Report, dims};

pub(crate) fn report(report: &Report) -> Json {
    Json::object([
        ("title", Json::from(report.title.as_str())),
        ("file", file(&report.file)),
        ("arrays", list(&report.arrays, array)),
        ("sections", option(report.sections.as_ref(), sections)),
        ("made", made(&report.made)),
    ])
}

fn file(file: &FileFacts) -> Json {
    Json::object([
        ("layout", Json::from(file.layout.name())),
        ("file_len", Json::from(file.len)),
        ("checksums", Json::from(Coverage::name(file.coverage))),
        ("checked_regions", Json::from(file.checked)),
        ("trailing_bytes", Json::from(file.trailing_len)),
        ("metadata", file.metadata.clone()),
    ])
}

fn array(array: &ArrayReport) -> Json {
    let errors = match &array.content {
        Content::Values(values) => values.error.as_ref(),
        _ => None,
    };
    let chunks = array.chunks.iter().enumerate().map(|(number, chunk)| {
        Json::object([
            ("start", Json::from(chunk.rows.start)),
            ("end", Json::from(chunk.rows.end)),
            ("stored_len", Json::from(chunk.stored_len)),
            ("codec", Json::from(chunk.codec.as_str())),
            ("loss", option(chunk.stored_loss.as_ref(), stored_loss)),
            ("measured", option(errors.and_then(|errors| errors.chunks.get(number)), measured_loss)),
        ])
    });
    let chunks: Vec<Json> = chunks.collect();
    let mut pairs = vec![
        ("name", Json::from(array.name.as_str())),
        ("dtype", Json::from(array.dtype.name())),
        ("shape", list(&array.shape, |len| Json::from(*len))),
        ("codec", Json::from(array.codec.as_str())),
        ("params", array.params.clone()),
        ("block_rows", option(array.block_rows.as_ref(), |rows| Json::from(u64::from(*rows)))),
        ("stored_len", Json::from(array.stored_len)),
        ("decoded_len", option(array.decoded_len.as_ref(), |len| Json::from(*len))),
        ("ratio", option(array.ratio().as_ref(), number)),
        ("bytes_per_value", option(array.bytes_per_value().as_ref(), number)),
        ("loss", option(array.stored_loss.as_ref(), stored_loss)),
        ("provenance", option(array.provenance.as_ref(), Json::clone)),
        ("chunks", Json::Array(chunks)),
    ];
    match &array.content {
        Content::Values(found) => pairs.push(("values", values(found))),
        Content::Strings(found) => pairs.push((
            "strings",
            Json::object([
                ("count", Json::from(found.count)),
                ("empty", Json::from(found.empty)),
                ("total_len", Json::from(found.total_len)),
                ("min_len", Json::from(found.min_len)),
                ("max_len", Json::from(found.max_len)),
                ("by_length", counts(&found.counts)),
            ]),
        )),
        Content::NotAsked => pairs.push(("left_out", Json::from("not asked for"))),
        Content::Unreadable(why) => pairs.push(("left_out", Json::from(why.as_str()))),
    }
    pairs.push(("recall", option(array.recall.as_ref(), recall)));
    Json::object(pairs)
}

fn values(values: &ValuesReport) -> Json {
    Json::object([
        ("decoded_dtype", Json::from(values.decoded_dtype.name())),
        ("complex", Json::from(values.complex)),
        ("decoded", side(&values.decoded)),
        ("original", option(values.original.as_ref(), side)),
        ("error", option(values.error.as_ref(), error)),
        ("drowned_dims", list(&values.drowned, |dim| Json::from(*dim as u64))),
    ])
}

fn side(side: &Side) -> Json {
    let dims = |of: fn(&dims::Dim) -> f64| list(&side.dims, |dim| number(&of(dim)));
    Json::object([
        ("rows", Json::from(side.rows)),
        ("finite", Json::from(side.finite)),
        ("nan", Json::from(side.nan)),
        ("infinite", Json::from(side.infinite)),
        ("nonfinite_rows", Json::from(side.nonfinite_rows)),
        ("zero_rows", Json::from(side.zero_rows)),
        ("min", number(&side.min)),
        ("max", number(&side.max)),
        ("mean", number(&side.mean)),
        ("std", number(&side.std)),
        ("histogram", histogram(&side.histogram)),
        ("min_norm", number(&side.min_norm)),
        ("max_norm", number(&side.max_norm)),
        ("mean_norm", number(&side.mean_norm)),
        ("norms", histogram(&side.norms)),
        ("dead_dims", list(&side.dead, |dim| Json::from(*dim as u64))),
        (
            "dims",
            Json::object([
                ("min", dims(|dim| dim.min)),
                ("max", dims(|dim| dim.max)),
                ("mean", dims(|dim| dim.mean)),
                ("std", dims(|dim| dim.std)),
            ]),
        ),
    ])
}

fn error(error: &ErrorReport) -> Json {
    Json::object([
        ("total", measured_loss(&error.total)),
        ("mean_cosine", number(&error.mean_cosine)),
        ("histogram", histogram(&error.histogram)),
        ("rms_by_dim", list(&error.dims, number)),
    ])
}

fn histogram(histogram: &Histogram) -> Json {
    Json::object([
        ("start", number(&histogram.start)),
        ("end", number(&histogram.end)),
        ("counts", counts(&histogram.counts)),
        ("below", Json::from(histogram.below)),
        ("above", Json::from(histogram.above)),
    ])
}

fn recall(recall: &Recall) -> Json {
    let of = |of: &RecallOf| {
        Json::object([
            ("queries", Json::from(of.queries)),
            ("mean", number(&of.mean)),
            ("by_found", counts(&of.by_found)),
        ])
    };
    Json::object([
        ("k", Json::from(recall.k as u64)),
        ("queries", counts(&recall.queries)),
        ("cosine", of(&recall.cosine)),
        ("l2", of(&recall.l2)),
    ])
}

fn sections(map: &SectionMap) -> Json {
    let sections = list(&map.sections, |section| {
        Json::object([
            ("start", Json::from(section.rows.start)),
            ("end", Json::from(section.rows.end)),
            ("metadata", section.metadata.clone()),
        ])
    });
    let values = list(&map.values, |(value, rows)| {
        Json::object([("value", Json::from(value.as_str())), ("rows", Json::from(*rows))])
    });
    Json::object([
        ("of", Json::from(if map.of_file { "file" } else { "chunks" })),
        ("key", option(map.key.as_ref(), |key| Json::from(key.as_str()))),
        ("values", values),
        ("sections", sections),
    ])
}

fn made(made: &Made) -> Json {
    Json::object([
        ("version", Json::from(made.version)),
        ("array", option(made.array.as_ref(), |name| Json::from(name.as_str()))),
        ("against", list(&made.originals, |name| Json::from(name.as_str()))),
        ("sample", Json::from(made.sample)),
        ("seed", Json::from(made.seed)),
        ("by", option(made.by.as_ref(), |key| Json::from(key.as_str()))),
    ])
}

fn stored_loss(loss: &Loss) -> Json {
    // With the digits of an f32.
    let short = |value: f32| number(&value.to_string().parse().unwrap_or(f64::from(value)));
    Json::object([
        ("max_abs_error", short(loss.max_abs_error)),
        ("mse", short(loss.mse)),
        ("min_cosine", short(loss.min_cosine)),
    ])
}

fn measured_loss(loss: &MeasuredLoss) -> Json {
    Json::object([
        ("max_abs_error", number(&loss.max_abs_error)),
        ("mse", number(&loss.mse)),
        ("min_cosine", number(&loss.min_cosine)),
        ("compared", Json::from(loss.compared)),
        ("not_back", Json::from(loss.not_back)),
    ])
}

/// NaN, which stands where there is nothing to say, as `null`.
fn number(value: &f64) -> Json {
    if value.is_nan() { Json::Null } else { Json::Number(Number::from_f64(*value)) }
}

fn counts(counts: &[u64]) -> Json {
    list(counts, |count| Json::from(*count))
}

fn list<T>(items: &[T], of: impl FnMut(&T) -> Json) -> Json {
    Json::Array(items.iter().map(of).collect())
}

fn option<T>(item: Option<&T>, of: impl FnOnce(&T) -> Json) -> Json {
    item.map_or(Json::Null, of)
}
