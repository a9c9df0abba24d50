//! What a store costs, beside the system calls that do the same with nothing kept safe. For `benches/store.py`, which runs it with
//! the rivals in turn; alone it prints one line of JSON for each figure.
//!
//! `bench_store FOLDER [ROUNDS]`: 1,000,000 x 10 f32 in FOLDER, which should be on the disk to be measured.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use cvc::{DType, RowSlice};
use cvc_store::{ArraySpec, Durability, Store, StoreOptions};

const ROWS: usize = 1_000_000;
const DIM: usize = 10;
const FEW: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("the folder to work in is missing")?;
    let rounds: usize = args.next().map_or(Ok(7), |rounds| rounds.parse())?;
    let folder = Path::new(&folder);
    let mut values = vec![0f32; ROWS * DIM];
    // As NumPy's are, beside which this stands: what is written from small pages takes longer.
    cvc::huge_pages::advise(bytemuck::cast_slice_mut(&mut values));
    for (value, n) in values.iter_mut().zip(0u32..) {
        *value = f32::from_bits(0x3f80_0000 | n.wrapping_mul(0x9e37_79b9) >> 9);
    }
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    let matrix = RowSlice::new(&values, DIM)?;
    let few = RowSlice::new(&values[..FEW * DIM], DIM)?;
    let few_bytes = few.bytes();
    let spec = ArraySpec::values(DType::F32, &[10], "raw");
    let path = folder.join("store");
    let _ = std::fs::remove_dir_all(&path);

    for round in 0..rounds {
        let show = |name: &str, seconds: f64| {
            println!("{{\"name\": \"{name}\", \"round\": {round}, \"seconds\": {seconds:e}}}")
        };
        // Whole arrays.
        let raw = folder.join("raw.bin");
        let _ = std::fs::remove_file(&raw);
        show("file.save", time(|| Ok(File::create(&raw)?.write_all(bytes)?))?);
        let _ = std::fs::remove_dir_all(&path);
        let mut store = Store::create_with(&path, StoreOptions::default().durability(Durability::Buffered))?;
        show("store.save", time(|| done(store.save("a", &spec, matrix)?))?);
        show(
            "file.load",
            time(|| {
                let mut read = Vec::with_capacity(bytes.len());
                File::open(&raw)?.read_to_end(&mut read)?;
                done(black_box(read))
            })?,
        );
        let mut loaded = Vec::new();
        show(
            "store.load.first",
            time(|| {
                loaded = store.array("a")?.read::<f32>(..)?;
                Ok(())
            })?,
        );
        assert!(loaded == values);
        drop(loaded);
        show("store.load", time(|| done(black_box(store.array("a")?.read::<f32>(..)?)))?);
        drop(store);
        show(
            "store.open_row",
            time(|| {
                let store = Store::open_read_only(&path)?;
                done(black_box(store.array("a")?.read::<f32>(&[777_777])?))
            })?,
        );
        store = Store::open_with(&path, StoreOptions::default().durability(Durability::Buffered))?;
        // Rows here and there.
        let array = store.array("a")?;
        for count in [100, 1000, 10_000] {
            let rows: Vec<i64> = (0..count).map(|n| (n * 7_919 * 131 + round as i64) % ROWS as i64).collect();
            let mut out = vec![0f32; rows.len() * DIM];
            let repeats = (100_000 / count).max(1);
            array.read_bytes(&rows, bytemuck::cast_slice_mut(&mut out))?;
            let seconds = time(|| {
                for _ in 0..repeats {
                    array.read_bytes(&rows, bytemuck::cast_slice_mut(black_box(&mut out)))?;
                }
                Ok(())
            })?;
            show(&format!("store.rows.{count}"), seconds / repeats as f64);
            // The same from a Vec, as NumPy would.
            let seconds = time(|| {
                for _ in 0..repeats {
                    for (into, row) in out.chunks_exact_mut(DIM).zip(&rows) {
                        let at = usize::try_from(*row).unwrap_or(0) * DIM;
                        into.copy_from_slice(&black_box(&values)[at..at + DIM]);
                    }
                }
                Ok(())
            })?;
            show(&format!("memory.rows.{count}"), seconds / repeats as f64);
        }
        drop(array);
        // Few rows, buffered.
        let file = OpenOptions::new().read(true).write(true).open(&raw)?;
        const REPEATS: usize = 1000;
        show(
            "file.replace.100",
            time(|| {
                for n in 0..REPEATS {
                    file.write_all_at(few_bytes, (n * 400 * 40) as u64)?;
                }
                Ok(())
            })? / REPEATS as f64,
        );
        show(
            "store.replace.100",
            time(|| {
                for n in 0..REPEATS {
                    let start = (n * 400) as u64;
                    store.replace("a", start..start + FEW as u64, few)?;
                }
                Ok(())
            })? / REPEATS as f64,
        );
        let end = file.metadata()?.len();
        show(
            "file.append.100",
            time(|| {
                for n in 0..REPEATS {
                    file.write_all_at(few_bytes, end + (n * few_bytes.len()) as u64)?;
                }
                Ok(())
            })? / REPEATS as f64,
        );
        show(
            "store.append.100",
            time(|| {
                for _ in 0..REPEATS {
                    store.append("a", few)?;
                }
                Ok(())
            })? / REPEATS as f64,
        );
        show("store.load.changed", time(|| done(black_box(store.array("a")?.read::<f32>(..)?)))?);
        // Few rows, synced.
        store.sync()?;
        file.sync_data()?;
        let end = file.metadata()?.len();
        let synced = store.with_durability(Durability::Synced);
        let (mut of_file, mut of_store) = (0., 0.);
        const SYNCS: usize = 20;
        for n in 0..SYNCS {
            of_file += time(|| {
                file.write_all_at(few_bytes, end + (n * few_bytes.len()) as u64)?;
                Ok(file.sync_data()?)
            })?;
            of_store += time(|| done(synced.append("a", few)?))?;
        }
        drop(synced);
        show("file.append.100.synced", of_file / SYNCS as f64);
        show("store.append.100.synced", of_store / SYNCS as f64);
        // A change takes its turn with replacing the journal, once in some 2,000 of these; that is in `store.appends.10000`.
        store.checkpoint()?;
        // A hundred changes of ten rows, each read and written back.
        show(
            "store.updates.100",
            time(|| {
                for n in 0..100i64 {
                    let rows: Vec<i64> = (n * 1000..n * 1000 + 10).collect();
                    let read = store.array("a")?.read::<f32>(&rows)?;
                    store.replace("a", &rows, RowSlice::new(&read, DIM)?)?;
                }
                Ok(())
            })?,
        );
        show(
            "store.view.100",
            time(|| {
                let mut view = store.writable("a")?;
                let values = view.values_mut::<f32>()?;
                for n in 0..100 {
                    values[n * 10_000..n * 10_000 + 100].fill(n as f32);
                }
                done(view.commit()?)
            })?,
        );
        drop(store);
        std::fs::remove_file(&raw)?;

        // A million rows in ten thousand commits.
        let _ = std::fs::remove_dir_all(&path);
        let store = Store::create_with(&path, StoreOptions::default().durability(Durability::Buffered))?;
        store.save("a", &spec, RowSlice::from_bytes(DType::F32, 0, DIM, &[])?)?;
        let open = || {
            time(|| {
                let store = Store::open_read_only(&path)?;
                done(black_box(store.array("a")?.read::<f32>(&[7])?))
            })
        };
        let mut most_files = 0;
        let mut opened = Vec::new();
        show(
            "store.appends.10000",
            time(|| {
                for n in 0..10_000 {
                    store.append("a", RowSlice::new(&values[n * 1000..(n + 1) * 1000], DIM)?)?;
                    if n % 1000 == 999 {
                        most_files = most_files.max(std::fs::read_dir(&path)?.count());
                        opened.push(open()?);
                    }
                }
                Ok(())
            })? - opened.iter().sum::<f64>(),
        );
        opened
            .iter()
            .enumerate()
            .for_each(|(at, seconds)| show(&format!("store.open.after.{}000", at + 1), *seconds));
        let before = store.disk_len()?;
        show("store.compact", time(|| done(store.compact()?))?);
        show("store.open.compacted", open()?);
        let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory =
            memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim().to_owned();
        println!(
            "{{\"name\": \"space\", \"round\": {round}, \"ratio_before\": {:.4}, \"ratio_after\": {:.4}, \"most_files\": {most_files}, \"files\": {}, \"memory\": \"{memory}\"}}",
            before as f64 / bytes.len() as f64,
            store.disk_len()? as f64 / bytes.len() as f64,
            std::fs::read_dir(&path)?.count(),
        );
        assert!(store.array("a")?.read::<f32>(..)? == values);
    }
    let _ = std::fs::remove_dir_all(&path);
    Ok(())
}

fn done<T>(_: T) -> Result<()> {
    Ok(())
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
