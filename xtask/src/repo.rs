//! The working tree and the commands that run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// `cargo`, the one that runs us where it says so, in the root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// The command as one would type it, with the variables that it sets.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        // That of a virtual environment is of no interest, and long.
        if let Some(value) = value.filter(|_| key != "PATH") {
            words.push(format!("{}={}", key.display(), value.display()));
        }
    }
    let program = Path::new(command.get_program());
    words.push(program.file_stem().unwrap_or_default().display().to_string());
    for arg in command.get_args() {
        let path = Path::new(arg);
        words.push(path.strip_prefix(root()).unwrap_or(path).display().to_string());
    }
    words.join(" ")
}

/// Prints the command, runs it with our own output, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs the command and returns its standard output; its errors go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    Ok(output.stdout)
}

/// The files of the repository, committed or about to be, with `/` between folders, sorted.
pub(crate) fn files() -> Result<BTreeSet<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let list = String::from_utf8(output(&mut git)?).context("a file name is not UTF-8; rename it")?;
    let names = list.split('\0').filter(|name| !name.is_empty());
    // A file that was deleted but is still in git's index is listed too.
    Ok(names.filter(|name| root().join(name).is_file()).map(str::to_owned).collect())
}

/// The git blob id of each file, over the bytes as they lie on disk.
pub(crate) fn blob_ids<'a>(paths: &[&'a str]) -> Result<BTreeMap<&'a str, String>> {
    let mut git = Command::new("git");
    git.args(["hash-object", "--no-filters", "--stdin-paths"]).current_dir(root());
    let mut child = git
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(&git)))?;
    let mut input = child.stdin.take().context("git has no standard input")?;
    let list = paths.join("\n") + "\n";
    // Written beside the reading: git answers while we still ask, and either pipe can fill up.
    let output = thread::scope(|scope| {
        // If git stops early its exit status says so; a broken pipe here adds nothing.
        scope.spawn(move || input.write_all(if paths.is_empty() { b"" } else { list.as_bytes() }));
        child.wait_with_output()
    })?;
    let ids = String::from_utf8(output.stdout)?;
    let ids: Vec<&str> = ids.lines().collect();
    if !output.status.success() || ids.len() != paths.len() {
        bail!(
            "`git hash-object` answered {} of {} files and ended with {}",
            ids.len(),
            paths.len(),
            output.status
        );
    }
    Ok(paths.iter().copied().zip(ids.into_iter().map(str::to_owned)).collect())
}

/// The files with their text, held in memory so that every check is a function of a value.
pub(crate) struct Tree {
    /// Text, or nothing where the file is not text.
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    pub(crate) fn read() -> Result<Tree> {
        let mut tree = BTreeMap::new();
        for path in files()? {
            let bytes = fs::read(root().join(&path)).with_context(|| format!("cannot read {path}"))?;
            let text = if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() };
            tree.insert(path, text);
        }
        Ok(Tree { files: tree })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), Some((*text).to_owned()));
        Tree { files: files.iter().map(own).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Every text file: path and text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is a file or a folder of this name.
    pub(crate) fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.files.contains_key(path) || self.paths_under(path).next().is_some()
    }

    pub(crate) fn paths_under(&self, folder: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{folder}/");
        self.files.keys().map(String::as_str).filter(move |path| path.starts_with(&prefix))
    }
}

/// Builds with optimisation and returns where cargo put the program called `name`: asking it is the only way that
/// holds under every target folder and every target.
pub(crate) fn build_program(args: &[&str], name: &str) -> Result<String> {
    let mut build = cargo(&["build", "--release"]);
    build.args(args);
    println!("$ {}", shown(&build));
    build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let messages = String::from_utf8(output(&mut build)?)?;
    executable(&messages, name).with_context(|| format!("cargo made no program `{name}`"))
}

/// The path of the program called `name` among cargo's messages.
fn executable(messages: &str, name: &str) -> Option<String> {
    let path = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message.get("target")?.get("name")? == name;
        is_it.then_some(message.get("executable")?.as_str()?.to_owned())
    };
    messages.lines().find_map(path)
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn a_program_is_found_among_cargo_messages_by_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"cvc"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"bench_engine"},"executable":"release/examples/bench_engine"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "bench_engine").as_deref(), Some("release/examples/bench_engine"));
        assert_eq!(executable(messages, "cvc"), None);
        assert_eq!(executable("{}", "cvc"), None);
    }
}
