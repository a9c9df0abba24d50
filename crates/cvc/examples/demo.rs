//! The main job on real input: pack sentence embeddings with their sections and names, verify, load one section back,
//! save what a damaged file still has, and see what each codec costs. Run by `cargo xtask demo`, which passes the path of the `cvc` program.
#![expect(clippy::print_stdout, reason = "showing is what a demo is for")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cvc::input::{Matrix, Options};
use cvc::{
    AlignedBytes, Condition, DeviceChoice, DeviceReport, Json, Layout, Reader, RowSlice, WriteOptions,
    Writer, choose, devices,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often something is timed; the median is shown.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let program = std::env::args_os().nth(1).ok_or("usage: demo PATH-OF-THE-CVC-PROGRAM")?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").canonicalize()?;
    let out = PathBuf::from("target/demo");
    fs::create_dir_all(&out)?;
    let demo = Demo { program: PathBuf::from(program), data, out };

    println!("1. On the command line: 2,000 sentence embeddings (MiniLM, 384 dimensions) of 58 sections\n");
    demo.command_line()?;
    println!("\n2. Damage is found, and the other rows are saved: one bit of a block is flipped\n");
    demo.damage()?;
    println!("\n3. From Rust: every codec on the same rows\n");
    demo.table()?;
    println!("\n4. On every device that can be had: the same bits\n");
    demo.devices()
}

struct Demo {
    program: PathBuf,
    data: PathBuf,
    out: PathBuf,
}

impl Demo {
    fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Runs `cvc` and shows the call as it would be typed, and what it prints.
    fn cvc(&self, args: &[&str], expected: i32) -> Result<()> {
        let shown: Vec<String> = args
            .iter()
            .map(|arg| arg.replace(&format!("{}/", self.data.display()), "examples/data/"))
            .collect();
        println!("$ cvc {}", shown.join(" "));
        let output = Command::new(&self.program).args(args).output()?;
        print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() != Some(expected) {
            return Err(format!("cvc ended with {}, expected status {expected}", output.status).into());
        }
        Ok(())
    }

    fn command_line(&self) -> Result<()> {
        let input = self.data("minilm2k.f32.npy");
        let sections = self.data("minilm2k.sections.json");
        let names = format!("names={}", self.data("minilm2k.names.txt").to_str().ok_or("path")?);
        let packed = self.out.join("minilm2k.cvc");
        let (python, python_names) = (self.out.join("python.npy"), self.out.join("python.txt"));
        let (input, sections) = (input.to_str().ok_or("path")?, sections.to_str().ok_or("path")?);
        let (packed, python) = (packed.to_str().ok_or("path")?, python.to_str().ok_or("path")?);
        let python_names = python_names.to_str().ok_or("path")?;
        self.cvc(
            &["pack", input, "-o", packed, "--codec", "int8", "--add", &names, "--sections", sections],
            0,
        )?;
        self.cvc(&["verify", packed], 0)?;
        self.cvc(&["info", packed], 0)?;
        self.cvc(&["unpack", packed, "-o", python, "--where", "section=python"], 0)?;
        self.cvc(
            &["unpack", packed, "-o", python_names, "--array", "names", "--where", "section=python"],
            0,
        )?;
        self.cvc(&["devices"], 0)
    }

    fn damage(&self) -> Result<()> {
        let mut bytes = fs::read(self.out.join("minilm2k.cvc"))?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let damaged = self.out.join("damaged.cvc");
        fs::write(&damaged, &bytes)?;
        let damaged = damaged.to_str().ok_or("path")?;
        self.cvc(&["verify", damaged], 1)?;
        self.cvc(&["unpack", damaged, "-o", "target/demo/damaged.npy"], 1)?;
        self.cvc(&["repair", damaged, "-o", "target/demo/repaired.cvc", "--force"], 0)?;
        self.cvc(&["verify", "target/demo/repaired.cvc"], 0)
    }

    fn devices(&self) -> Result<()> {
        for codec in ["int8", "lossless"] {
            let reader = Reader::open(self.out.join(format!("minilm2k.{codec}.cvc")))?;
            let vectors = reader.vectors()?;
            let expected: Vec<f32> = vectors.read(..)?;
            for report in devices() {
                let (DeviceReport { kind, reason, .. }, Some(number)) = (&report, report.number) else {
                    println!("{codec:9} {:44} not here: {}", report.kind.name(), report.reason);
                    continue;
                };
                let name = report.name.as_deref().unwrap_or_default();
                if !report.available {
                    println!("{codec:9} {name:44} not usable: {reason}");
                    continue;
                }
                let values: Vec<f32> =
                    choose(&DeviceChoice::Nth(*kind, number))?.backend.read(&vectors, ..)?;
                let same = values.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                if !same || values.len() != expected.len() {
                    return Err(format!("{codec} on {name} gave other bits than the cpu").into());
                }
                println!("{codec:9} {name:44} {} values, bit for bit those of the cpu", values.len());
            }
        }
        Ok(())
    }

    fn table(&self) -> Result<()> {
        let matrix = Matrix::open(&self.data("minilm2k.f32.npy"), &Options::default())?;
        let queries = Matrix::open(&self.data("minilm2k.queries.npy"), &Options::default())?;
        let nearest = Matrix::open(&self.data("minilm2k.gt.cosine.npy"), &Options::default())?;
        let dim = matrix.dim() as usize;
        let mut scratch = [AlignedBytes::new(), AlignedBytes::new(), AlignedBytes::new()];
        let [one, two, three] = &mut scratch;
        let rows = RowSlice::from_bytes(matrix.dtype(), 2000, dim, matrix.read(0..matrix.rows(), one)?)?;
        let original: &[f32] = bytemuck::cast_slice(rows.bytes());
        let queries: &[f32] = bytemuck::cast_slice(queries.read(0..queries.rows(), two)?);
        let nearest: &[i32] = bytemuck::cast_slice(nearest.read(0..nearest.rows(), three)?);

        println!(
            "codec      file bytes   smaller   largest error   recall@10   pack MB/s   load MB/s   read of .npy MB/s"
        );
        for codec in ["raw", "fp16", "bf16", "int8", "zstd", "gzip", "lossless"] {
            let path = self.out.join(format!("minilm2k.{codec}.cvc"));
            let (pack_seconds, ()) = median(|| {
                let options =
                    WriteOptions::new(Layout::Native).vectors(matrix.dtype(), matrix.dim(), codec)?;
                let mut writer = Writer::create(&path, options)?;
                writer.write_vectors(rows)?;
                writer.add_section(0..500, Json::object([("part", Json::from("first"))]))?;
                writer.finish()?;
                Ok(())
            })?;
            let mut decoded = vec![0f32; original.len()];
            let (load_seconds, ()) =
                median(|| Ok(Reader::open(&path)?.vectors()?.read_into(.., &mut decoded)?))?;
            // What there is to beat: the same rows from a file that holds them as they are.
            let plain = self.data("minilm2k.f32.npy");
            let (plain_seconds, _) = median(|| Ok(fs::read(&plain)?))?;

            let reader = Reader::open(&path)?;
            let section = reader.find(&[Condition::new("part", "first")])?;
            let part: Vec<f32> = reader.vectors()?.read(section)?;
            assert_eq!(part, decoded[..500 * dim], "a section is the same rows as in the whole file");

            let error = original.iter().zip(&decoded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let bytes = fs::metadata(&path)?.len();
            let megabytes = (original.len() * 4) as f64 / 1e6;
            println!(
                "{codec:8} {bytes:12}   {:7.3}   {error:13.2e}   {:9.4}   {:9.0}   {:9.0}   {:17.0}",
                (original.len() * 4) as f64 / bytes as f64,
                recall(&decoded, queries, nearest, dim),
                megabytes / pack_seconds,
                megabytes / load_seconds,
                megabytes / plain_seconds,
            );
        }
        println!(
            "\nRates count f32 bytes, are medians of {ROUNDS} rounds on this machine and include opening, checksums and, \
             for packing, syncing to disk. The last column reads \
             the float32 .npy into memory, for comparison."
        );
        Ok(())
    }
}

/// The median time of some rounds, and what the last one gave.
fn median<T>(mut work: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let mut last = work()?;
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        last = work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[ROUNDS / 2], last))
}

/// The share of each query's ten nearest rows (cosine) that are also the ten nearest among the decoded rows.
fn recall(rows: &[f32], queries: &[f32], nearest: &[i32], dim: usize) -> f64 {
    let norms: Vec<f32> = rows.chunks_exact(dim).map(|row| dot(row, row).sqrt()).collect();
    let mut found = 0;
    let count = queries.len() / dim;
    for (query, nearest) in queries.chunks_exact(dim).zip(nearest.chunks_exact(nearest.len() / count)) {
        let mut scored: Vec<(f32, i32)> = rows
            .chunks_exact(dim)
            .zip(&norms)
            .zip(0..)
            .map(|((row, norm), index)| (dot(row, query) / norm, index))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found += scored[..10].iter().filter(|(_, index)| nearest[..10].contains(index)).count();
    }
    found as f64 / (count * 10) as f64
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
