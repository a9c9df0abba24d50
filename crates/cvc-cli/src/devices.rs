//! `cvc devices`

use cvc::{Chosen, DeviceChoice, DeviceReport, choose, devices};
use serde_json::{Map, Value, json};

use crate::args::DevicesArgs;
use crate::report::{Failure, size, to_stdout};

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let chosen = choose(&DeviceChoice::Auto)?;
    let auto = chosen.report.kind;
    // A device that was there until it was opened says why it was not taken.
    let found = |report: DeviceReport| {
        let is_same = |passed: &DeviceReport| (passed.kind, passed.number) == (report.kind, report.number);
        let same = |passed: &&DeviceReport| report.number.is_some() && is_same(passed);
        chosen.passed_over.iter().find(same).cloned().unwrap_or(report)
    };
    let reports: Vec<DeviceReport> = devices().into_iter().map(found).collect();
    if args.json {
        let devices: Vec<Value> = reports.iter().map(|report| describe(report, &chosen)).collect();
        return crate::json::print(&json!({ "devices": devices, "auto": auto.name() }));
    }
    let mut text = String::new();
    for report in reports {
        let mark = if is_taken(&report, &chosen) { "*" } else { " " };
        let kind = match report.number {
            Some(number) => format!("{}:{number}", report.kind),
            None => report.kind.to_string(),
        };
        let state = if report.available { "available" } else { "not available" };
        let name = report.name.as_deref().unwrap_or("-");
        text += &format!("{mark} {kind:7} {name}\n            {state}: {}\n", report.reason);
        if !report.limits.is_empty() {
            let limits: Vec<String> =
                report.limits.iter().map(|(name, limit)| limited(name, *limit)).collect();
            text += &format!("            at most {}\n", limits.join(", "));
        }
    }
    to_stdout(&(text + "* is what auto takes"))
}

fn describe(report: &DeviceReport, chosen: &Chosen) -> Value {
    let limits: Map<String, Value> =
        report.limits.iter().map(|(name, limit)| ((*name).to_owned(), json!(limit))).collect();
    json!({
        "backend": report.kind.name(),
        "number": report.number,
        "name": report.name,
        "available": report.available,
        "auto": is_taken(report, chosen),
        "reason": report.reason,
        "limits": limits,
    })
}

/// Whether automatic choice takes this device.
fn is_taken(report: &DeviceReport, chosen: &Chosen) -> bool {
    (report.kind, report.number) == (chosen.report.kind, chosen.report.number)
}

/// A limit with its name: `buffer_bytes` is a size, anything else a count.
fn limited(name: &str, limit: u64) -> String {
    match name.strip_suffix("_bytes") {
        Some("memory") => format!("{} of memory", size(limit)),
        Some(name) => format!("{} in a {}", size(limit), name.replace('_', " ")),
        None => format!("{limit} {}", name.replace('_', " ")),
    }
}
