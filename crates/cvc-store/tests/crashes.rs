//! The process dies at every call that writes, the machine loses power, the disk is full: the store is then at the last commit
//! that was acknowledged as durable, or at a later whole one.

mod support;

use std::collections::BTreeMap;
use std::io;

use cvc_store::{Durability, Error, Store, StoreOptions};
use support::Random;
use support::memory::{Fault, Memory};
use support::model::{Model, Op, model_of};

fn options(random: &mut Random) -> StoreOptions {
    let mut options = StoreOptions::default();
    options.inline_len = [64, 256, 2000][random.index(3)];
    options.journal_len = [2048, 8192, 40_000][random.index(3)];
    options.segment_len = [600, 4096][random.index(2)];
    options.durability = if random.below(2) == 0 { Durability::Buffered } else { Durability::Synced };
    options
}

/// What is known of a store from outside.
struct Known {
    /// The model after every commit that was acknowledged or tried.
    states: BTreeMap<u64, Model>,
    /// The model after the last commit that was acknowledged, and that commit.
    model: Model,
    commit: u64,
    /// The last commit that was acknowledged as durable.
    durable: u64,
    /// What was tried last, if it was not acknowledged.
    tried: Option<Model>,
}

impl Known {
    fn new() -> Known {
        let states = BTreeMap::from([(0, Model::new())]);
        Known { states, model: Model::new(), commit: 0, durable: 0, tried: None }
    }

    /// Does random things until one fails, or so many were done.
    fn work(
        &mut self,
        memory: &Memory,
        store: &mut Option<Store>,
        random: &mut Random,
        count: usize,
    ) -> Result<(), Error> {
        for _ in 0..count {
            let Some(open) = store.as_ref() else { return Ok(()) };
            let op = Op::random(random, &self.model, false);
            let durability =
                if random.below(3) == 0 { Durability::Synced } else { open.options().durability };
            let mut after = self.model.clone();
            op.apply(&mut after);
            let failed = self.tried.replace(after.clone());
            if matches!(op, Op::Reopen) && failed.is_some() {
                self.tried.clone_from(&failed);
            }
            if matches!(op, Op::Reopen) {
                let options = open.options();
                *store = None;
                let open = store.insert(Store::open_on(memory.layer(), options)?);
                let snapshot = open.snapshot();
                if snapshot.commit() > self.commit {
                    // The record of a commit whose sync failed was there after all.
                    self.model = failed.expect("nothing else makes commits");
                    self.commit = snapshot.commit();
                    self.states.insert(self.commit, self.model.clone());
                    assert_eq!(model_of(&snapshot), self.model, "opened after a failure");
                }
                self.tried = None;
                continue;
            }
            op.run(open, durability)?;
            let synced = match &op {
                Op::Batch(_, durability) => *durability == Durability::Synced,
                Op::Compact | Op::Checkpoint | Op::Sync => true,
                _ => durability == Durability::Synced,
            };
            let snapshot = open.snapshot();
            self.model = after;
            // Compaction makes commits that change nothing.
            for commit in self.commit + 1..=snapshot.commit() {
                self.states.insert(commit, self.model.clone());
            }
            if synced
                && (snapshot.commit() > self.commit || matches!(op, Op::Compact | Op::Checkpoint | Op::Sync))
            {
                self.durable = snapshot.commit();
            }
            self.commit = snapshot.commit();
            self.tried = None;
            if random.below(4) == 0 {
                assert_eq!(model_of(&snapshot), self.model, "after {op:?}");
            }
        }
        Ok(())
    }

    /// Compares what is found after a crash, and goes on from there.
    fn check(&mut self, store: &Store, least: u64, context: &str) {
        let snapshot = store.snapshot();
        let (commit, found) = (snapshot.commit(), model_of(&snapshot));
        assert!(commit >= least, "{context}: commit {commit}, but {least} was acknowledged");
        let expected = self.states.get(&commit).or(self.tried.as_ref());
        let expected = expected.unwrap_or_else(|| panic!("{context}: commit {commit} was never made"));
        // A compaction that was cut short may have made several commits.
        let compacted = self.tried.as_ref() == Some(&self.model);
        assert!(commit <= self.commit + 1 || compacted, "{context}: commit {commit} of {}", self.commit);
        assert_eq!(&found, expected, "{context}: at commit {commit}");
        self.states.retain(|known, _| *known <= commit);
        self.states.insert(commit, found.clone());
        (self.model, self.commit, self.durable, self.tried) = (found, commit, self.durable.min(commit), None);
    }
}

/// One store, killed once or twice. Returns how often.
fn crash(seed: u64, kill: u64, power: bool) -> usize {
    let mut random = Random(seed);
    let options = options(&mut random);
    let memory = Memory::new(seed ^ kill.wrapping_mul(77));
    let mut known = Known::new();
    memory.set_fault(Some(Fault::Kill(kill)));
    let mut store = Store::create_on(memory.layer(), options).ok();
    let created = store.is_some();
    let _ = known.work(&memory, &mut store, &mut random, 30);
    drop(store);
    if !memory.is_dead() {
        return 0;
    }
    let mut crashes = 1;
    let mut luck = Random(seed.wrapping_mul(31) ^ kill);
    for round in 0..3 {
        let context = format!("seed {seed}, killed at {kill}, power {power}, round {round}");
        let least = if power { known.durable } else { known.commit };
        if power {
            memory.restart_machine(&mut luck)
        } else {
            memory.restart_process()
        }
        // A reader comes before the writer does.
        match Store::open_read_only_on(memory.layer()) {
            Ok(reader) => {
                let before = model_of(&reader.snapshot());
                let commit = reader.snapshot().commit();
                let expected = known.states.get(&commit).or(known.tried.as_ref());
                assert_eq!(Some(&before), expected, "{context}: a reader");
            }
            Err(Error::NotAStore { .. }) if !created && round == 0 => return crashes,
            Err(error) => panic!("{context}: a reader: {error}"),
        }
        // Even while it is opened.
        let dies_again = luck.below(3) == 0;
        if dies_again {
            memory.set_fault(Some(Fault::Kill(memory.calls() + 1 + luck.below(4))));
        }
        match Store::open_on(memory.layer(), options) {
            Ok(store) => {
                known.check(&store, least, &context);
                if !dies_again {
                    memory.set_fault(Some(Fault::Kill(memory.calls() + 1 + luck.below(40))));
                }
                let mut store = Some(store);
                let _ = known.work(&memory, &mut store, &mut random, 10);
                drop(store);
            }
            Err(error) => {
                assert!(memory.is_dead(), "{context}: {error}");
                // What was acknowledged still holds.
            }
        }
        if !memory.is_dead() {
            return crashes;
        }
        crashes += 1;
    }
    crashes
}

/// Kills runs at every call that they make, `step` calls apart, until that was done so often.
fn crashes(seeds: std::ops::Range<u64>, step: u64, most: usize) -> usize {
    let mut count = 0;
    for seed in seeds {
        for power in [false, true, true] {
            let mut kill = 1 + seed % step;
            loop {
                let crashed = crash(seed, kill, power);
                count += crashed;
                if crashed == 0 || count >= most {
                    break;
                }
                kill += step;
            }
        }
        if count >= most {
            break;
        }
    }
    count
}

#[test]
fn no_crash_loses_a_commit_or_halves_one() {
    assert!(crashes(0..1000, 19, 900) >= 900);
}

/// The long form: `cargo xtask test --long`.
#[test]
#[ignore = "it takes minutes"]
fn ten_thousand_crashes_lose_nothing() {
    let count = crashes(1000..100_000, 1, 10_000);
    assert!(count >= 10_000, "{count}");
}

#[test]
fn a_disk_that_is_full_or_refuses_leaves_the_last_commit() {
    let mut failures = 0;
    for seed in 0..12 {
        let mut call = 6 + seed % 5;
        loop {
            let mut random = Random(seed);
            let options = options(&mut random);
            let memory = Memory::new(seed);
            let mut known = Known::new();
            let mut store = Some(Store::create_on(memory.layer(), options).unwrap());
            memory.set_fault(Some(match call % 3 {
                0 => Fault::Full(call),
                1 => Fault::Fail(call, io::ErrorKind::PermissionDenied),
                _ => Fault::Fail(call, io::ErrorKind::StorageFull),
            }));
            let result = known.work(&memory, &mut store, &mut random, 25);
            let context = format!("seed {seed}, call {call}");
            let done = memory.calls() < call;
            if let Err(error) = result {
                failures += 1;
                assert!(!error.is_usage(), "{context}: {error}");
                if let Some(open) = &store {
                    // What failed did not happen, and what was there can be read, here and elsewhere.
                    assert_eq!(model_of(&open.snapshot()), known.model, "{context}");
                    if matches!(known.tried, Some(ref tried) if *tried != known.model) {
                        assert_eq!(open.snapshot().commit(), known.commit, "{context}");
                    }
                }
                let reader = Store::open_read_only_on(memory.layer()).unwrap();
                let commit = reader.snapshot().commit();
                assert!(commit >= known.commit, "{context}");
                // There is room again.
                memory.set_fault(None);
                let tried = known.tried.clone();
                if let Err(error) = known.work(&memory, &mut store, &mut random, 5) {
                    assert!(matches!(error, Error::Unknown), "{context}: {error}");
                    // Nothing was done since, so it is still the first failure of which nobody knows what came.
                    known.tried = tried;
                }
            }
            drop(store);
            memory.restart_process();
            let store = Store::open_on(memory.layer(), options).unwrap();
            let least = known.commit;
            known.check(&store, least, &context);
            let mut store = Some(store);
            known.work(&memory, &mut store, &mut random, 5).unwrap();
            if done {
                break;
            }
            call += 5;
        }
    }
    assert!(failures > 100, "{failures}");
}
