//! `cargo xtask shaders`: from `shaders` to what ships inside `cvc-wgpu`.
//!
//! A shader of an op is its own file after the files that all ops share; those of searching stand alone. Each is validated here, so that a mistake is found
//! where there is no GPU, and written to a copy inside the crate, which is published without the rest of the repository.
//! Beside the copies comes a table in Rust, of what the validator found in them: nobody writes a binding number twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Literal, Module, StorageAccess};

use crate::repo;

const SOURCES: &str = "shaders";
const CRATE: &str = "crates/cvc-wgpu/src";

/// The files that stand before each op's.
const SHARED: [&str; 3] = ["frame", "narrow", "sum"];

/// What shaders of searching begin with in their names.
const OF_SEARCH: &str = "scan_";

pub(crate) fn run(check: bool) -> Result<()> {
    let sources = read_sources(&repo::root().join(SOURCES))?;
    let made = make(&sources)?;
    let home = repo::root().join(CRATE);
    let stale = stale(&home, &made)?;
    if stale.is_empty() {
        println!(
            "{} shaders are valid, and their copies in {CRATE} are up to date",
            sources.len() - SHARED.len()
        );
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    if check {
        bail!("not what {SOURCES} makes: {}; run `cargo xtask shaders`", names.join(", "));
    }
    for path in &stale {
        let full = home.join(path);
        match made.get(path) {
            Some(text) => {
                fs::create_dir_all(full.parent().unwrap_or(&home))?;
                fs::write(&full, text)
            }
            None => fs::remove_file(&full),
        }
        .with_context(|| format!("cannot write {}", full.display()))?;
    }
    println!("wrote {} below {CRATE}", names.join(", "));
    Ok(())
}

/// The text of each file, by its name without the ending.
fn read_sources(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().display().to_string();
        // As git may write them on Windows.
        sources.insert(name, fs::read_to_string(&path)?.replace("\r\n", "\n"));
    }
    Ok(sources)
}

/// What belongs below the crate's `src`, by path.
fn make(sources: &BTreeMap<String, String>) -> Result<BTreeMap<PathBuf, String>> {
    let mut shared = String::new();
    for name in SHARED {
        let text = sources.get(name).with_context(|| format!("{SOURCES}/{name}.wgsl is missing"))?;
        shared = shared + text + "\n";
    }
    let mut made = BTreeMap::new();
    let mut table = String::from(HEAD);
    let (mut of_frame, mut of_search) = (BTreeMap::new(), BTreeMap::new());
    for (op, text) in sources.iter().filter(|(name, _)| !SHARED.contains(&name.as_str())) {
        // One with an entry of its own prepares what the frame of an op then finds.
        let source = if text.contains("@compute") { text.clone() } else { shared.clone() + text };
        let module = validated(op, &source)?;
        table += &described(op, &module)?;
        if op.starts_with(OF_SEARCH) {
            of_search.extend(constants_of(&module));
        } else if of_frame.is_empty() {
            of_frame = constants_of(&module);
        }
        made.insert(PathBuf::from(format!("shaders/{op}.wgsl")), source);
    }
    for (name, what, constants) in [("frame", "the frame", of_frame), ("scan", "searching", of_search)] {
        if constants.is_empty() {
            continue;
        }
        let unused = match name {
            "scan" => "#[expect(dead_code, reason = \"some are for the shaders alone\")]\n",
            _ => "",
        };
        writeln!(table, "\n/// The constants of {what}.\n{unused}pub(crate) mod {name} {{")?;
        for (name, value) in constants {
            writeln!(table, "    pub(crate) const {name}: usize = {value};")?;
        }
        table += "}\n";
    }
    made.insert(PathBuf::from("shaders.rs"), table);
    Ok(made)
}

const HEAD: &str = "\
//! What is in the shaders: written by `cargo xtask shaders`, which reads `shaders`. Not to be edited.

use crate::pipelines::{Access, Binding, Shader};
";

fn validated(op: &str, source: &str) -> Result<Module> {
    let at = format!("{SOURCES}/{op}.wgsl, after {}", SHARED.join(", "));
    let module = naga::front::wgsl::parse_str(source)
        .map_err(|error| anyhow!("{at}: {}", error.emit_to_string(source)))?;
    // What every device has, and nothing more.
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|error| anyhow!("{at}: {}", error.emit_to_string(source)))?;
    Ok(module)
}

/// The line of the table for one shader.
fn described(op: &str, module: &Module) -> Result<String> {
    let [entry] = module.entry_points.as_slice() else {
        bail!("{SOURCES}/{op}.wgsl: one entry point is needed, there are {}", module.entry_points.len());
    };
    let mut bindings = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let name = variable.name.as_deref().unwrap_or_default();
        let access = match variable.space {
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "ReadWrite",
            AddressSpace::Storage { .. } => "Read",
            _ => bail!("{SOURCES}/{op}.wgsl: `{name}` is no storage buffer, which is all that is bound"),
        };
        if binding.group != 0 {
            bail!("{SOURCES}/{op}.wgsl: `{name}` is in group {}; all are in group 0", binding.group);
        }
        bindings.push((binding.binding, name.to_owned(), access));
    }
    bindings.sort();
    let [x, y, z] = entry.workgroup_size;
    let mut text = format!(
        "\npub(crate) static {}: Shader = Shader {{\n    name: \"{op}\",\n    source: \
         include_str!(\"shaders/{op}.wgsl\"),\n    entry: \"{}\",\n    workgroup: [{x}, {y}, {z}],\n    bindings: &[\n",
        op.to_uppercase(),
        entry.name
    );
    for (number, name, access) in bindings {
        writeln!(
            text,
            "        Binding {{ number: {number}, name: \"{name}\", access: Access::{access} }},"
        )?;
    }
    text += "    ],\n};\n";
    Ok(text)
}

/// The named numbers of a module.
fn constants_of(module: &Module) -> BTreeMap<String, u32> {
    let named = module.constants.iter().filter_map(|(_, constant)| {
        match (&constant.name, &module.global_expressions[constant.init]) {
            (Some(name), Expression::Literal(Literal::U32(value))) => Some((name.clone(), *value)),
            _ => None,
        }
    });
    named.collect()
}

/// The paths whose files are not what was made, or should not be there.
fn stale(home: &Path, made: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let differs = |(path, text): (&PathBuf, &String)| {
        let found = fs::read_to_string(home.join(path)).unwrap_or_default();
        (found.replace("\r\n", "\n") != *text).then(|| path.clone())
    };
    let mut stale: Vec<PathBuf> = made.iter().filter_map(differs).collect();
    if let Ok(folder) = fs::read_dir(home.join("shaders")) {
        for entry in folder {
            let path = Path::new("shaders").join(entry?.file_name());
            if !made.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(op: &str) -> BTreeMap<String, String> {
        let frame = "const SIZE: u32 = 7u;\n@group(0) @binding(1) var<storage, read_write> out: array<u32>;\n\
                     @compute @workgroup_size(64)\nfn main() { out[0] = load(); }";
        [("frame", frame), ("narrow", ""), ("sum", ""), ("op", op)]
            .map(|(name, text)| (name.into(), text.into()))
            .into()
    }

    #[test]
    fn what_is_in_a_shader_stands_in_the_table() {
        let op =
            "@group(0) @binding(0) var<storage, read> src: array<u32>;\nfn load() -> u32 { return src[0]; }";
        let made = make(&sources(op)).unwrap();
        let table = &made[Path::new("shaders.rs")];
        for expected in [
            "pub(crate) static OP: Shader",
            "workgroup: [64, 1, 1]",
            "Binding { number: 0, name: \"src\", access: Access::Read }",
            "Binding { number: 1, name: \"out\", access: Access::ReadWrite }",
            "pub(crate) const SIZE: usize = 7;",
        ] {
            assert!(table.contains(expected), "{expected} in {table}");
        }
        assert!(made[Path::new("shaders/op.wgsl")].ends_with(op));
    }

    #[test]
    fn what_is_not_valid_is_refused_by_name() {
        for op in
            ["fn load() -> u32 { return 1.0; }", "fn load() u32", "fn load() -> u32 { return nothing; }"]
        {
            let error = make(&sources(op)).unwrap_err().to_string();
            assert!(error.contains("shaders/op.wgsl"), "{error}");
        }
    }

    #[test]
    fn an_old_copy_and_one_too_many_are_stale() {
        let home = std::env::temp_dir().join(format!("cvc-xtask-shaders-{}", std::process::id()));
        fs::create_dir_all(home.join("shaders")).unwrap();
        let made = make(&sources("fn load() -> u32 { return 1u; }")).unwrap();
        for (path, text) in &made {
            fs::write(home.join(path), text).unwrap();
        }
        assert!(stale(&home, &made).unwrap().is_empty());
        fs::write(home.join("shaders/op.wgsl"), "old").unwrap();
        fs::write(home.join("shaders/gone.wgsl"), "").unwrap();
        let found = stale(&home, &made).unwrap();
        fs::remove_dir_all(&home).unwrap();
        assert_eq!(found, [PathBuf::from("shaders/op.wgsl"), PathBuf::from("shaders/gone.wgsl")]);
    }
}
