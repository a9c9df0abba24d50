//! The obvious store: arrays are lists of rows in memory. Every operation is done to it and to the real one.

use std::collections::BTreeMap;

use cvc::{DType, RowSlice, Strings};
use cvc_store::{ArraySpec, Batch, Durability, Error, Selection, Snapshot, Store};

use super::Random;

/// Rows of an array: what each says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) codec: &'static str,
    pub(crate) rows: Vec<u32>,
}

pub(crate) type Model = BTreeMap<String, Rows>;

/// Two values of f32 say which row it is; as strings it is its number.
const CODECS: [&str; 5] = ["raw", "lossless", "int8", "fp16", "utf8"];

/// Ids, and the array of the rows that have them.
const IDS: (&str, &str) = ("k", "v");

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Save(String, &'static str, Vec<u32>),
    Append(String, Vec<u32>),
    Replace(String, Vec<i64>, Vec<u32>),
    DeleteRows(String, Vec<i64>),
    Delete(String),
    Rename(String, String),
    Clone(String, String),
    /// Rows of `v` under ids that `k` has: distinct ones, and as many rows.
    Upsert(Vec<u32>, Vec<u32>),
    /// The same rows of `k` and `v`.
    DeleteIds(Vec<i64>),
    Batch(Vec<Op>, Durability),
    Compact,
    Checkpoint,
    Sync,
    Reopen,
}

fn numbers(random: &mut Random, count: usize) -> Vec<u32> {
    (0..count).map(|_| u32::try_from(random.below(200)).unwrap()).collect()
}

fn value(number: u32) -> [f32; 2] {
    // Exact in every codec: int8 stores the ends of the range of a row.
    #[expect(clippy::cast_precision_loss, reason = "below 200")]
    let value = number as f32;
    [value, -value]
}

impl Op {
    pub(crate) fn random(random: &mut Random, model: &Model, nested: bool) -> Op {
        let name = |random: &mut Random| ["a", "b", "c"][random.index(3)].to_owned();
        let existing = |random: &mut Random| {
            // Those are changed together or not at all.
            let names: Vec<&String> =
                model.keys().filter(|name| **name != IDS.0 && **name != IDS.1).collect();
            if names.is_empty() { None } else { Some(names[random.index(names.len())].clone()) }
        };
        if random.below(6) == 0 {
            let rows = model.get(IDS.0).map_or(0, |ids| ids.rows.len());
            if rows > 0 && random.below(3) == 0 {
                let rows = i64::try_from(rows).unwrap();
                let count = random.index(4);
                let which = (0..count).map(|_| i64::try_from(random.index(usize::MAX >> 1)).unwrap() % rows);
                return Op::DeleteIds(which.collect());
            }
            let mut ids = numbers(random, 20);
            ids.sort_unstable();
            ids.dedup();
            let rows = numbers(random, ids.len());
            return Op::Upsert(ids, rows);
        }
        let Some(of) = existing(random) else {
            let codec = CODECS[random.index(CODECS.len())];
            let count = random.index(60);
            return Op::Save(name(random), codec, numbers(random, count));
        };
        let rows = model[&of].rows.len();
        let some_rows = |random: &mut Random, most: usize| -> Vec<i64> {
            let count = random.index(most.min(rows) + 1);
            let mut list: Vec<i64> = (0..count).map(|_| i64::try_from(random.index(rows)).unwrap()).collect();
            if random.below(3) == 0 {
                list.iter_mut().for_each(|row| *row -= i64::try_from(rows).unwrap());
            }
            list
        };
        match random.below(if nested { 12 } else { 20 }) {
            0 => {
                let codec = CODECS[random.index(CODECS.len())];
                let count = [0, 3, 20, 200][random.index(4)];
                Op::Save(name(random), codec, numbers(random, count))
            }
            1..=4 => {
                let count = [1, 5, 20, 150][random.index(4)];
                Op::Append(of, numbers(random, count))
            }
            5..=7 => {
                let list = some_rows(random, 30);
                let rows = numbers(random, list.len());
                Op::Replace(of, list, rows)
            }
            8 | 9 => Op::DeleteRows(of, some_rows(random, 15)),
            10 => {
                let to = name(random);
                match (model.contains_key(&to), random.below(2)) {
                    (true, _) => Op::Delete(of),
                    (false, 0) => Op::Rename(of, to),
                    (false, _) => Op::Clone(of, to),
                }
            }
            11 => Op::Append(of, numbers(random, 2)),
            12..=14 => {
                let mut after = model.clone();
                let mut ops = Vec::new();
                for _ in 0..1 + random.below(3) {
                    let op = Op::random(random, &after, true);
                    op.apply(&mut after);
                    ops.push(op);
                }
                Op::Batch(ops, if random.below(2) == 0 { Durability::Buffered } else { Durability::Synced })
            }
            15 => Op::Compact,
            16 => Op::Checkpoint,
            17 => Op::Sync,
            _ => Op::Reopen,
        }
    }

    /// What it does to the model.
    pub(crate) fn apply(&self, model: &mut Model) {
        match self {
            Op::Save(name, codec, rows) => {
                model.insert(name.clone(), Rows { codec, rows: rows.clone() });
            }
            Op::Append(name, rows) => model.get_mut(name).unwrap().rows.extend(rows),
            Op::Replace(name, which, rows) => {
                let array = &mut model.get_mut(name).unwrap().rows;
                for (which, row) in which.iter().zip(rows) {
                    let len = i64::try_from(array.len()).unwrap();
                    array[usize::try_from(which.rem_euclid(len)).unwrap()] = *row;
                }
            }
            Op::DeleteRows(name, which) => {
                let array = &mut model.get_mut(name).unwrap().rows;
                let len = i64::try_from(array.len()).unwrap();
                let mut gone: Vec<usize> =
                    which.iter().map(|which| usize::try_from(which.rem_euclid(len)).unwrap()).collect();
                gone.sort_unstable();
                gone.dedup();
                gone.into_iter().rev().for_each(|row| {
                    array.remove(row);
                });
            }
            Op::Delete(name) => {
                model.remove(name);
            }
            Op::Rename(from, to) => {
                let array = model.remove(from).unwrap();
                model.insert(to.clone(), array);
            }
            Op::Clone(from, to) => {
                let array = model[from].clone();
                model.insert(to.clone(), array);
            }
            Op::Upsert(ids, rows) => {
                let empty = |codec| Rows { codec, rows: Vec::new() };
                let mut known = model.remove(IDS.0).unwrap_or(empty("ids"));
                let values = model.entry(IDS.1.into()).or_insert(empty("raw"));
                for (id, row) in ids.iter().zip(rows) {
                    match known.rows.iter().position(|other| other == id) {
                        Some(at) => values.rows[at] = *row,
                        None => {
                            known.rows.push(*id);
                            values.rows.push(*row);
                        }
                    }
                }
                model.insert(IDS.0.into(), known);
            }
            Op::DeleteIds(which) => {
                Op::DeleteRows(IDS.0.into(), which.clone()).apply(model);
                Op::DeleteRows(IDS.1.into(), which.clone()).apply(model);
            }
            Op::Batch(ops, _) => ops.iter().for_each(|op| op.apply(model)),
            Op::Compact | Op::Checkpoint | Op::Sync | Op::Reopen => {}
        }
    }

    /// Does it to a store, alone.
    pub(crate) fn run(&self, store: &Store, durability: Durability) -> Result<(), Error> {
        match self {
            Op::Batch(ops, durability) => {
                let mut batch = store.batch()?;
                ops.iter().try_for_each(|op| op.put(&mut batch))?;
                batch.commit_as(*durability).map(drop)
            }
            Op::Compact => store.compact().map(drop),
            Op::Checkpoint => store.checkpoint(),
            Op::Sync => store.sync(),
            Op::Reopen => Ok(()),
            _ => self.run_alone(&store.with_durability(durability)),
        }
    }

    fn run_alone(&self, store: &Store) -> Result<(), Error> {
        let done = match self {
            Op::Upsert(..) | Op::DeleteIds(_) => {
                let mut batch = store.batch()?;
                self.put(&mut batch)?;
                batch.commit()
            }
            Op::Save(name, "utf8", rows) => store.save(name, &spec("utf8"), &strings(rows)),
            Op::Save(name, codec, rows) => store.save(name, &spec(codec), slice(&values(rows))),
            Op::Append(name, rows) if is_text(&store.snapshot(), name) => store.append(name, &strings(rows)),
            Op::Append(name, rows) => store.append(name, slice(&values(rows))),
            Op::Replace(name, which, rows) if is_text(&store.snapshot(), name) => {
                store.replace(name, which, &strings(rows))
            }
            Op::Replace(name, which, rows) => store.replace(name, which, slice(&values(rows))),
            Op::DeleteRows(name, which) => store.delete_rows(name, which),
            Op::Delete(name) => store.delete(name),
            Op::Rename(from, to) => store.rename(from, to),
            Op::Clone(from, to) => store.clone_array(from, to),
            _ => unreachable!(),
        };
        done.map(drop)
    }

    fn put(&self, batch: &mut Batch) -> Result<(), Error> {
        match self {
            Op::Save(name, "utf8", rows) => batch.save(name, &spec("utf8"), &strings(rows)),
            Op::Save(name, codec, rows) => batch.save(name, &spec(codec), slice(&values(rows))),
            Op::Append(name, rows) if is_text(&batch.snapshot(), name) => batch.append(name, &strings(rows)),
            Op::Append(name, rows) => batch.append(name, slice(&values(rows))),
            Op::Replace(name, which, rows) if is_text(&batch.snapshot(), name) => {
                batch.replace(name, which, &strings(rows))
            }
            Op::Replace(name, which, rows) => batch.replace(name, which, slice(&values(rows))),
            Op::DeleteRows(name, which) => batch.delete_rows(name, which),
            Op::Delete(name) => batch.delete(name),
            Op::Rename(from, to) => batch.rename(from, to),
            Op::Clone(from, to) => batch.clone_array(from, to),
            Op::Upsert(ids, rows) => {
                let (ids, values): (Vec<u64>, _) =
                    (ids.iter().map(|id| (*id).into()).collect(), values(rows));
                let ids = RowSlice::new(&ids, 1).unwrap();
                if batch.snapshot().has(IDS.0) {
                    batch.upsert(IDS.0, ids, &[(IDS.1, slice(&values).into())])
                } else {
                    batch.save(IDS.0, &ArraySpec::values(DType::U64, &[], "raw").unique(), ids)?;
                    batch.save(IDS.1, &spec("raw"), slice(&values))
                }
            }
            Op::DeleteIds(which) => {
                batch.delete_rows(IDS.0, which)?;
                batch.delete_rows(IDS.1, which)
            }
            _ => unreachable!(),
        }
    }
}

fn is_text(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.array(name).unwrap().spec().dtype().is_none()
}

fn spec(codec: &str) -> ArraySpec {
    match codec {
        "utf8" => ArraySpec::strings("raw"),
        codec => ArraySpec::values(DType::F32, &[2], codec),
    }
}

fn values(rows: &[u32]) -> Vec<f32> {
    rows.iter().flat_map(|row| value(*row)).collect()
}

fn strings(rows: &[u32]) -> Strings {
    rows.iter().map(|row| format!("the row of number {row}")).collect()
}

fn slice(values: &[f32]) -> RowSlice<'_> {
    RowSlice::new(values, 2).unwrap()
}

/// What a snapshot holds, read in two ways.
pub(crate) fn model_of(snapshot: &Snapshot) -> Model {
    let mut model = Model::new();
    for name in snapshot.names() {
        let array = snapshot.array(&name).unwrap();
        let rows = if array.spec().is_unique() {
            let read = array.read::<u64>(Selection::All).unwrap();
            Rows { codec: "ids", rows: read.into_iter().map(|id| id.try_into().unwrap()).collect() }
        } else if array.spec().dtype().is_none() {
            let read = array.read_strings(Selection::All).unwrap();
            let number = |string: &str| string.rsplit(' ').next().unwrap().parse().unwrap();
            Rows { codec: "utf8", rows: read.iter().map(number).collect() }
        } else {
            let read = array.read::<f32>(Selection::All).unwrap();
            let each: Vec<i64> = (0..i64::try_from(array.rows()).unwrap()).rev().collect();
            let backwards = array.read::<f32>(&each).unwrap();
            assert!(read.chunks(2).eq(backwards.chunks(2).rev()), "{name}");
            let rows = read.chunks(2).map(|row| {
                assert!((row[0] + row[1]).abs() < 1e-3, "{name}: {row:?}");
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
                let number = row[0].round() as u32;
                number
            });
            let codec = CODECS.into_iter().find(|codec| *codec == array.spec().codec()).unwrap();
            Rows { codec, rows: rows.collect() }
        };
        model.insert(name, rows);
    }
    model
}
