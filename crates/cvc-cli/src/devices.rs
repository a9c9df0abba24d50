//! `cvc devices`

use cvc::{DeviceChoice, choose, devices};
use serde_json::json;

use crate::args::DevicesArgs;
use crate::report::{Failure, to_stdout};

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let chosen = choose(DeviceChoice::Auto)?;
    let auto = chosen.backend.device().kind;
    let reports = devices();
    if args.json {
        let devices = reports.iter().map(|report| {
            json!({
                "backend": report.kind.name(),
                "name": report.name,
                "available": report.available,
                "reason": report.reason,
            })
        });
        return crate::json::print(&json!({ "devices": devices.collect::<Vec<_>>(), "auto": auto.name() }));
    }
    let mut text = String::new();
    for report in reports {
        let mark = if report.kind == auto { "*" } else { " " };
        let name = report.name.unwrap_or_else(|| "-".into());
        let state = if report.available { "available" } else { "not available" };
        text += &format!("{mark} {:5} {name:28} {state}: {}\n", report.kind.name(), report.reason);
    }
    to_stdout(&(text + "* is what auto takes"))
}
