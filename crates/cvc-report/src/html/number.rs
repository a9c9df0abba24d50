//! Numbers as people read them.

/// `12,000`
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 row`, `2 rows`
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Four digits: `0.01234`, `-1.5`, `2.5e-7`; a dash where there is nothing to say.
pub(super) fn value(number: f64) -> String {
    rounded(number, 4)
}

/// Seven digits.
pub(super) fn precise(number: f64) -> String {
    rounded(number, 7)
}

fn rounded(number: f64, digits: u8) -> String {
    if number.is_nan() {
        return "\u{2013}".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "infinite".into() } else { "\u{2212}infinite".into() };
    }
    let text = match number.abs() {
        0.0 => "0".to_owned(),
        1e-3..1e6 => {
            let whole_digits = number.abs().log10().floor();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 9")]
            let decimals = (f64::from(digits) - 1.0 - whole_digits).max(0.0) as usize;
            let text = trimmed(&format!("{:.decimals$}", number.abs()));
            let sign = if number < 0.0 { "-" } else { "" };
            match text.split_once('.') {
                Some((whole, part)) => format!("{sign}{}.{part}", grouped(whole)),
                None => format!("{sign}{}", grouped(&text)),
            }
        }
        _ => scientific(number, usize::from(digits) - 1),
    };
    text.replace('-', "\u{2212}")
}

/// A cosine, with as many digits as show how far it is from 1.
pub(super) fn cosine(number: f64) -> String {
    let short = 1.0 - number;
    if short.is_nan() || short == 0.0 || short > 0.1 {
        return value(number);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 16")]
    let decimals = (2.0 - short.log10().floor()) as usize;
    trimmed(&format!("{number:.decimals$}"))
}

/// `1.5e-7`
fn scientific(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$e}");
    let (digits, exponent) = text.split_once('e').expect("that is how Rust writes it");
    format!("{}e{exponent}", trimmed(digits))
}

/// Without zeros at its end, behind a point.
fn trimmed(text: &str) -> String {
    if !text.contains('.') {
        return text.to_owned();
    }
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

/// `9.30 MB`: powers of ten, as disks are sold.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.2} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// `12.3 %` of `whole`.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "\u{2013}".into() } else { format!("{:.1} %", part as f64 / whole as f64 * 100.0) }
}

/// A count on an axis: `100`, `10k`, `1M`.
pub(super) fn short_count(number: f64) -> String {
    let (number, unit) = match number {
        ..1e4 => return count(whole(number)),
        1e4..1e6 => (number / 1e3, "k"),
        1e6..1e9 => (number / 1e6, "M"),
        1e9..1e12 => (number / 1e9, "G"),
        _ => return value(number),
    };
    trimmed(&format!("{number:.1}")) + unit
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts that are drawn fit")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Round numbers from `start` to `end`, about five or, where their names are long, three; and what they are called.
pub(super) fn ticks(start: f64, end: f64, whole_only: bool) -> Vec<(f64, String)> {
    let ticks = about(5.0, start, end, whole_only);
    let room: usize = ticks.iter().map(|(_, name)| name.chars().count() + 2).sum();
    if room > 43 { about(3.0, start, end, whole_only) } else { ticks }
}

fn about(many: f64, start: f64, end: f64, whole_only: bool) -> Vec<(f64, String)> {
    // So that no difference overflows.
    let rough = (end / many) - (start / many);
    if !rough.is_normal() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let mut steps = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = steps.find(|step| *step >= rough * 0.75 && step.is_normal()).unwrap_or(rough);
    let step = if whole_only { step.max(1.0).round() } else { step };
    let first = (start / step).ceil();
    let numbers = (0..12u8).map(|n| (first + f64::from(n)) * step);
    let inside = numbers.take_while(|tick| tick.is_finite() && *tick <= end + step * 1e-6);
    inside.map(|tick| (tick, tick_name(tick, step, start.abs().max(end.abs())))).collect()
}

/// With as many digits as the step has; all of an axis with the same power of ten, that of its largest number.
fn tick_name(tick: f64, step: f64, most: f64) -> String {
    if tick.abs() < step / 2.0 {
        return "0".into();
    }
    let exponent = |number: f64| number.log10().floor();
    // What rounding took from a step that is a power of ten.
    let of_step = exponent(step * 1.000_001);
    let plain = (1e-3..1e6).contains(&most) && of_step >= -6.0;
    if plain && of_step >= 0.0 && tick.abs() >= 1e3 {
        return signed_count(tick);
    }
    let of_most = if plain { 0.0 } else { exponent(most) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 6")]
    let decimals = (of_most - of_step).clamp(0.0, 6.0) as usize;
    // In two steps, for a power of ten may be too small to divide by.
    let digits = tick / 10f64.powf(of_most / 2.0) / 10f64.powf(of_most / 2.0);
    let text = format!("{digits:.decimals$}");
    let text = if plain { text } else { format!("{text}e{of_most}") };
    text.replace('-', "\u{2212}")
}

fn signed_count(number: f64) -> String {
    format!("{}{}", if number < 0.0 { "\u{2212}" } else { "" }, count(whole(number.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "row"), counted(2000, "row")], ["1 row", "2,000 rows"]);
        assert_eq!([size(12), size(9_300_000)], ["12 B", "9.30 MB"]);
        let short = [1.0, 1000.0, 1e4, 2.5e5, 3e6].map(short_count);
        assert_eq!(short, ["1", "1,000", "10k", "250k", "3M"]);
        assert_eq!([share(1, 8), share(0, 0)], ["12.5 %", "\u{2013}"]);
    }

    #[test]
    fn values_have_four_digits() {
        let of = [0.0, -0.0, 0.012345, -1.5, 123456.7, 2.5e-7, f64::NAN, 1e300, 0.99999].map(value);
        assert_eq!(
            of,
            ["0", "0", "0.01235", "\u{2212}1.5", "123,457", "2.5e\u{2212}7", "\u{2013}", "1e300", "1"]
        );
        assert_eq!(
            [1.0, 0.999_968_4, 0.5, -1.0, f64::NAN].map(cosine),
            ["1", "0.9999684", "0.5", "\u{2212}1", "\u{2013}"]
        );
        assert_eq!(cosine(1.0 - f64::EPSILON), "0.999999999999999778");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let names =
            |start, end| ticks(start, end, false).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(
            names(0.0, 1.0),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|name| if name == "0.0" { "0" } else { name })
        );
        assert_eq!(
            names(-0.03, 0.03),
            ["\u{2212}0.03", "\u{2212}0.02", "\u{2212}0.01", "0", "0.01", "0.02", "0.03"]
        );
        assert_eq!(names(0.0, 12_000.0), ["0", "5,000", "10,000"]);
        assert_eq!(
            names(-2e-5, 2e-5),
            ["\u{2212}2e\u{2212}5", "\u{2212}1e\u{2212}5", "0", "1e\u{2212}5", "2e\u{2212}5"]
        );
        assert_eq!(names(1.0, 1.0), [""; 0]);
        for (start, end) in
            [(f64::MIN, f64::MAX), (0.0, 5e-324), (-1e-310, 1e-310), (0.99, 1.01), (1e15, 1e15 + 8.0)]
        {
            assert!(
                ticks(start, end, false)
                    .iter()
                    .all(|(tick, _)| *tick >= start - end.abs() * 1e-6 && tick.is_finite())
            );
        }
        let whole = ticks(0.0, 3.0, true).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(whole, ["0", "1", "2", "3"]);
    }
}
