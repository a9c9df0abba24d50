"""Runs benches: rivals and ourselves on the same work in the same run. `cargo xtask bench [NAME]` makes what this needs and
calls it.

    python bench.py --cvc PROGRAM --engine PROGRAM --search PROGRAM --python-2x PYTHON [NAME]...

A bench is a file in definitions/: data, read by this one program. Of the kind `engines`, it

1. makes the data and the files that it needs;
2. starts one process for each engine, so that no engine inherits the memory of another;
3. asks each for its answer and compares the checksum with the one in the definition, before anything is timed;
4. times all engines in rounds, one after the other, each round beginning with another one, so that whatever else the
   machine does meets all of them;
5. prints medians and spreads, and writes every single measurement to record/.

The wall clock is the engine's own, around the one call that is measured. Processor time and memory are read from outside
(Linux only), in the same way for every engine.
"""

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
import zlib
from pathlib import Path

import numpy as np

import data
import plot
import search
from harness import FOLDER, HERE, Failed, Missing, Others, Process, call, cpu_seconds, crc32_of, engines_of
from harness import machine, memory_of, peak_rss, print_goals, ratio, spread
from rivals import RIVALS


def main():
    names = sorted(path.stem for path in (HERE / "definitions").glob("*.toml"))
    parser = argparse.ArgumentParser(description="Runs benches.")
    parser.add_argument("--cvc", required=True, help="the `cvc` program")
    parser.add_argument("--engine", required=True, help="the example `bench_engine`")
    parser.add_argument("--search", required=True, help="the example `bench_search` of `cvc-search`")
    parser.add_argument("--python-2x", required=True, help="a Python with `decompressed` 2.x, which 0.1.0 excludes")
    parser.add_argument("--rounds", type=int, help="instead of what the definition says; nothing is recorded")
    parser.add_argument("--rows", type=int, help="search: only the first so many rows; nothing is recorded")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}; all if none is given")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in names]
    if unknown:
        parser.error(f"there is no bench {unknown[0]}; there are {', '.join(names)}")
    FOLDER.mkdir(exist_ok=True)
    for name in args.names or names:
        definition = tomllib.loads((HERE / "definitions" / f"{name}.toml").read_text(encoding="utf-8"))
        if args.rounds:
            definition["rounds"] = args.rounds
        try:
            run = KINDS[definition["kind"]]
            about, rows = run(name, definition, args)
        except Missing as error:
            print(f"skipped: {error}")
            continue
        except Failed as error:
            sys.exit(f"error: bench {name}: {error}")
        if not (args.rounds or args.rows):
            path = record(name, about, rows)
            for part in definition.get("parts", [{}]) if definition.get("plot") else []:
                plot.draw(path, definition, HERE.parent / "docs" / "benchmarks" / f"{part.get('plot', name)}.svg", part)


# Benches of the kind `engines`.


def run_engines(name, definition, args):
    print(f"\n== {name}: {definition['title']}")
    original = data.make(FOLDER, definition["data"])
    for packed in definition.get("packed", []):
        prepare(packed, definition["answers"], original, args)
    about = machine()
    lists = lists_of_rows(definition)
    engines, skipped = start_engines(definition, original, lists, args)
    about.update(skipped)
    try:
        for engine in engines:
            about[f"engine {engine.name}"] = engine.version
            engine.check(definition["answers"])
        about.update(count_reads(definition, engines))
        print(f"{len(engines)} engines give the right answers; {definition['rounds']} rounds")
        others = Others(engines)
        rows = measure(engines, definition)
        about["cores busy with other work during the run"] = others.cores()
    finally:
        for engine in engines:
            engine.stop()
        output(definition).unlink(missing_ok=True)
    print_engines(definition, rows)
    print_goals(definition.get("goal", []), rows)
    print(f"Other work on the machine kept {about['cores busy with other work during the run']} cores busy meanwhile.")
    return about, rows


class Engine(Process):
    """One way to do the work, in a process of its own."""

    def __init__(self, spec, definition, original, lists, args):
        self.answer = spec["answer"]
        # What is measured may be the same work several times over; figures are of one.
        self.times = max(1, len(lists))
        request = dict(spec["request"], do=definition["do"])
        if request["do"] == "pack":
            request["input"] = str(original)
            request["path"] = str(output(definition))
        else:
            request["path"] = str(FOLDER / spec["file"])
            request["dim"] = data.DIM
        self.open = dict(request, do="open", lists=lists) if request["do"] == "rows" else None
        self.request = request
        script = str(HERE / "engine.py")
        workers = {"cvc": [args.engine], "python": [sys.executable, script], "python 2.x": [args.python_2x, script]}
        super().__init__(spec["name"], workers[spec["worker"]])
        try:
            hello = self.ask(dict(request, do="hello"))
        except Failed:
            self.stop()
            raise
        self.version = f"{hello['engine']} {hello['detail']}".strip()

    def check(self, answers):
        """Compares the answer with what it must be: the f32 values of a load, the bytes of a packed file."""
        self.prepare()
        answer = self.ask(dict(self.request, crc32=True))
        found = answer.get("crc32") or crc32_of(Path(self.request["path"]))
        self.release()
        if found != answers[self.answer]:
            raise Failed(f"{self.name}: the answer has crc32 {found}, not {answers[self.answer]}")

    def prepare(self):
        """What comes before the clock starts."""
        # Writers begin with no file of that name.
        if self.request["do"] == "pack":
            Path(self.request["path"]).unlink(missing_ok=True)
        if self.open:
            self.ask(self.open)

    def measure(self):
        self.prepare()
        before = cpu_seconds(self.process.pid)
        answer = self.ask(self.request)
        after = cpu_seconds(self.process.pid)
        if self.request["do"] == "pack":
            # A file that still waits for the disk would be written during the next engine's turn.
            flush(self.request["path"])
        peak = peak_rss(self.process.pid)
        # What was loaded is given back outside the clock; a buffer that is used again stays.
        if self.request["do"] == "load" and not self.request.get("reuse"):
            self.release()
        return {
            "wall_s": round(answer["wall_s"] / self.times, 6),
            "cpu_s": "" if before is None else round((after - before) / self.times, 6),
            "f32_bytes": answer["rows"] * answer["dim"] * 4 // self.times,
            "file_bytes": size_of(Path(self.request["path"])),
            "peak_rss_bytes": peak,
        }

    def release(self):
        self.ask({"do": "release"})


def output(definition):
    """Where files are written: in memory, if that is wanted and can be had, so that no disk takes part."""
    memory = Path("/dev/shm")
    folder = memory if definition.get("output") == "memory" and memory.is_dir() else FOLDER
    return folder / "cvc-bench-out.cvc"


def size_of(path):
    """Some rivals write folders."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def lists_of_rows(definition):
    """What a bench of rows asks for: lists of distinct rows in no order, the same every time."""
    if definition["do"] != "rows":
        return []
    wanted = definition["lists"]
    rng = np.random.Generator(np.random.PCG64(wanted["seed"]))
    return [rng.choice(data.ROWS, wanted["rows"], replace=False).tolist() for _ in range(wanted["count"])]


def start_engines(definition, original, lists, args):
    engines, skipped = [], {}
    for spec in definition["engine"]:
        try:
            engines.append(Engine(spec, definition, original, lists, args))
        except Failed as error:
            if not spec.get("optional"):
                raise
            # The places of this machine are nobody's business.
            reason = re.sub(r"/\S*/", "", str(error)).removeprefix(f"{spec['name']}: ")
            skipped[f"skipped {spec['name']}"] = reason
            print(f"skipped: {spec['name']}: {reason}")
    return engines, skipped


def measure(engines, definition):
    rows = []
    for turn in range(definition["warmup"] + definition["rounds"]):
        first = turn % len(engines)
        for engine in engines[first:] + engines[:first]:
            # Where little is done at a time, whatever a process finds when it wakes up is left out.
            results = [engine.measure() for _ in range(definition.get("repeat", 1))]
            results = sorted(results[1:] or results, key=lambda result: result["wall_s"])
            result = results[len(results) // 2]
            if turn >= definition["warmup"]:
                rows.append({"engine": engine.name, "round": turn - definition["warmup"] + 1, **result})
    return rows


def print_engines(definition, rows):
    """A Markdown table: medians with the least and the most, and ratios to the engines that the definition names."""
    by_engine = engines_of(rows)
    baseline = definition.get("baseline")
    has_cpu = rows[0]["cpu_s"] != ""
    rival_is = definition.get("rival_is")
    # A list of rows takes milliseconds.
    unit, scale = ("ms", 1e3) if definition["do"] == "rows" else ("s", 1)
    head = ["engine", f"wall {unit}", f"cpu {unit}", "f32 GB/s"]
    head += ["wall / baseline", "cpu / baseline"] if baseline else []
    head += ["wall / rival", "cpu / rival"] if rival_is else []
    copies = [by_engine[name] for name in definition.get("copies", []) if name in by_engine]
    best_copy = min((statistics.median(row["wall_s"] for row in rows) for rows in copies), default=None)
    head += ["rate / best copy"] if best_copy else []
    head += ["peak MB", "file MB"]
    head += ["file / rival"] if definition.get("compare_files") else []
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for spec in definition["engine"]:
        own = by_engine.get(spec["name"])
        if not own:
            continue
        rate = own[0]["f32_bytes"] / statistics.median(row["wall_s"] for row in own) / 1e9
        cells = [spec["name"], spread(own, "wall_s", scale)]
        cells += [spread(own, "cpu_s", scale) if has_cpu else "", f"{rate:.2f}"]
        for other in ([baseline] if baseline else []) + ([spec.get("rival")] if rival_is else []):
            others = by_engine.get(other)
            cells.append(ratio(own, others, "wall_s") if others else "")
            cells.append(ratio(own, others, "cpu_s") if others and has_cpu else "")
        if best_copy:
            cells.append(f"{best_copy / statistics.median(row['wall_s'] for row in own):.2f}")
        peak = max(row["peak_rss_bytes"] or 0 for row in own)
        cells += [f"{peak / 1e6:.0f}" if peak else "", f"{own[0]['file_bytes'] / 1e6:.1f}"]
        if definition.get("compare_files"):
            cells.append(f"{own[0]['file_bytes'] / others[0]['file_bytes']:.3f}" if others else "")
        print(f"| {' | '.join(cells)} |")
    print(f"\n{unit}: median (least..most) of {definition['rounds']} rounds. Ratios: of the medians (median of the ratios")
    print("round by round)." + (f" The baseline is `{baseline}`." if baseline else ""))
    print(f"The rival is {rival_is}." if rival_is else "")


def count_reads(definition, engines):
    """How many bytes of a file the first list of rows costs; this does not depend on the machine."""
    about = {}
    for spec in definition.get("reads", []):
        engine = next(engine for engine in engines if engine.name == spec["engine"])
        found = engine.ask(dict(engine.open, do="reads"))
        tables = found["index_bytes"] + found["table_bytes"]
        times = (found["read_bytes"] - tables) / found["block_bytes"]
        about[f"reads {engine.name}"] = text = (
            f"{found['read_bytes']} bytes read for {len(engine.open['lists'][0])} rows: index {found['index_bytes']}, "
            f"block tables {found['table_bytes']}, and {times:.4f} times the {found['block_bytes']} bytes of the "
            f"{found['blocks']} blocks that hold them"
        )
        print(f"{engine.name}: {text}")
        if times > spec["at_most"]:
            raise Failed(f"{engine.name}: that is more than {spec['at_most']} times")
    return about


# The files that engines read.


def prepare(packed, answers, original, args):
    """Packs a file and checks that its values are as near to the original as its codec promises."""
    path = FOLDER / packed["file"]
    write(packed, path, original, args)
    if "answer" not in packed:
        return  # Engines that read it are checked, and its values are the original ones.
    unpacked = FOLDER / "unpacked.npy"
    call([args.cvc, "unpack", str(path), "-o", str(unpacked)])
    values = np.load(unpacked, mmap_mode="r")
    found = f"{zlib.crc32(values):08x}"
    if found != answers[packed["answer"]]:
        raise Failed(f"{path.name}: the values have crc32 {found}, not {answers[packed['answer']]}")
    worst, error = worst_error(path, packed, np.load(original, mmap_mode="r"), values)
    print(f"{path.name}: {path.stat().st_size} bytes, largest error {error:.3g}, {worst:.4f} of half a step")
    # Beside half a step: the two roundings of the decoder, each a few millionths of it here.
    if worst > 1.0001:
        raise Failed(f"{path.name}: a value is off by {worst:.4f} of half a step")
    unpacked.unlink()


def write(packed, path, original, args):
    """Rivals pack a file once, `cvc` at every run: it is the one that changes."""
    if packed["by"] == "cvc":
        call([args.cvc, "pack", str(original), "-o", str(path), *packed["options"]])
        return
    if path.exists():
        return
    # Some go by the ending of a name.
    partial = path.with_name("partial" + path.suffix)
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    if packed["by"] == "decompressed 2.x":
        write = "import sys, numpy, decompressed; decompressed.pack_cvc(numpy.load(sys.argv[1]), sys.argv[2], compression=sys.argv[3])"
        call([args.python_2x, "-c", write, str(original), str(partial), packed["codec"]])
    else:
        RIVALS[packed["by"]].write(np.load(original), partial, packed)
    partial.rename(path)


def worst_error(path, packed, original, values):
    """The largest error of any value, in halves of the step that its codec makes there, and as it is."""
    worst, error, row = 0.0, 0.0, 0
    for rows, scale in scales_of(path, packed["codec"], len(original)):
        for start in range(rows.start, rows.stop, 10_000):
            part = slice(start, min(start + 10_000, rows.stop))
            exact = original[part].astype(np.float64)
            off = np.abs(values[part] - exact)
            error = max(error, float(off.max()))
            worst = max(worst, float((off / half_steps(packed["codec"], exact, scale)).max()))
        row = rows.stop
    if row != len(original):
        raise Failed(f"{path.name}: its chunks have {row} rows, not {len(original)}")
    return worst, error


def half_steps(codec, exact, scale):
    """Half the distance between values that the codec can represent, computed from the original values alone."""
    if codec == "lossless":
        # Nothing may be lost, so any error is far more than this.
        return 2.0**-200
    if codec == "fp16":
        # Half a unit in the last of a half's eleven bits.
        return np.maximum(2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 2.0**-14))) - 11), 2.0**-25)
    if scale is not None:
        return scale / 2
    # Each row has its own.
    return (exact.max(axis=1, keepdims=True) - exact.min(axis=1, keepdims=True)) / 255 / 2


def scales_of(path, codec, row_count):
    """Which rows share a step, and how large it is: those of a chunk of int8 in layouts v0 and v1, as their header says."""
    with open(path, "rb") as file:
        start = file.read(12)
        if start[4:8] == b"\xff\r\n\x1a":
            return [(slice(0, row_count), None)]
        at = 8 if start[8:9] == b"{" else 12
        file.seek(at)
        length = int.from_bytes(start[at - 4 : at], "little")
        chunks = json.loads(file.read(length))["chunks"]
    scales, row = [], 0
    for chunk in chunks:
        scales.append((slice(row, row + chunk["rows"]), chunk.get("scale")))
        row += chunk["rows"]
    return scales


def flush(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


# Benches of the kind `memory`.


def run_memory(name, definition, args):
    print(f"\n== {name}: {definition['title']}")
    places = {"cvc": args.cvc, "python": sys.executable, "folder": str(FOLDER), "data": str(data.make(FOLDER, "minilm200k.f32.npy"))}
    about = machine()
    workers = about["cores"]
    rows = []
    for turn in range(definition["rounds"]):
        for spec in definition["command"]:
            peaks = watch([word.format(**places) for word in spec["run"]], spec["name"])
            sizes = [Path(spec[key].format(**places)).stat().st_size for key in ("input", "output")]
            chunk = definition["chunk_mb"][spec["codec"]] * 1e6
            rows.append(
                {"command": spec["name"], "round": turn + 1, **peaks}
                | {"input_bytes": sizes[0], "output_bytes": sizes[1]}
                | {"bound_bytes": round(sum(sizes) + workers * chunk), "bound_chunks_bytes": round(workers * chunk)}
            )
    for path in FOLDER.glob("memory.*"):
        path.unlink()
    print_memory(definition, rows)
    return about, rows


def watch(command, name):
    """Runs a command and gives the peaks of its memory: that of the sum is kept by the kernel, the parts are sampled.

    The peak that wait4(2) reports is of no use: it counts what this process held when it forked.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0, "RssShmem": 0}
    while process.poll() is None:
        sizes = memory_of(process.pid)
        for key, peak in peaks.items():
            peaks[key] = max(peak, sizes.get(key, 0))
        time.sleep(0.0005)
    if process.returncode != 0:
        raise Failed(f"{name}: ended with {process.returncode}")
    return {
        "wall_s": round(time.perf_counter() - started, 3),
        "peak_bytes": peaks["VmHWM"],
        "peak_anonymous_bytes": peaks["RssAnon"] + peaks["RssShmem"],
        "peak_mapped_bytes": peaks["RssFile"],
    }


def print_memory(definition, rows):
    print("\n| command | peak MB | of it anonymous | mapped file | input + output + chunks | chunks alone |")
    print("|---|---|---|---|---|---|")
    for spec in definition["command"]:
        own = [row for row in rows if row["command"] == spec["name"]]
        most = {key: max(row[key] for row in own) / 1e6 for key in own[0] if key.endswith("_bytes")}
        print(
            f"| {spec['name']} | {most['peak_bytes']:.1f} | {most['peak_anonymous_bytes']:.1f} "
            f"| {most['peak_mapped_bytes']:.1f} | {most['bound_bytes']:.1f} | {most['bound_chunks_bytes']:.1f} |"
        )
    print(f"\nThe most of {definition['rounds']} runs.")


# Benches of the kind `recall`.


def run_recall(name, definition, args):
    """How near search over decoded rows comes to search over the original ones: an exact scan of all of them."""
    print(f"\n== {name}: {definition['title']}")
    folder = HERE.parent / definition["folder"]
    paths = {key: folder / definition[key] for key in ("rows", "queries", "truth")}
    missing = [path.name for path in paths.values() if not path.exists()]
    if missing:
        raise Missing(f"there is no {', no '.join(missing)} in {definition['folder']} beside the repository")
    original, queries, truth = (np.load(path) for path in paths.values())
    top = definition["top"]
    about = machine()
    for key in paths:
        about[definition[key]] = f"crc32 {crc32_of(paths[key])}"
    # So that ours and theirs mean the same by nearest.
    if recall(original, queries, truth, top) != 1.0:
        raise Failed("the original rows do not give the nearest rows that the set says")
    rows = []
    for spec in definition["file"]:
        path = FOLDER / ("recall.b2nd" if spec["by"] == "blosc2" else "recall.cvc")
        path.unlink(missing_ok=True)
        write(spec, path, paths["rows"], args)
        values = read_back(spec, path, args)
        found = recall(values, queries, truth, top)
        size = path.stat().st_size
        path.unlink()
        error = np.abs(values.astype(np.float64) - original).max()
        row = {"file": spec["name"], "file_bytes": size, "ratio": round(original.nbytes / size, 4)}
        rows.append(row | {f"recall@{top}": round(found, 6), "largest_error": f"{error:.6g}"})
        for key, value in (("ratio", row["ratio"]), ("recall", found)):
            if value < spec.get(f"least_{key}", 0):
                raise Failed(f"{spec['name']}: {key} {value}, less than {spec[f'least_{key}']}")
    print(f"\n| file | bytes | times smaller | recall@{top} | largest error |\n|---|---|---|---|---|")
    for row in rows:
        found = row[f"recall@{top}"]
        size, error = f"{row['file_bytes']:,}", f"{float(row['largest_error']):.3g}"
        print(f"| {row['file']} | {size} | {row['ratio']:.3f} | {found:.4f} | {error} |")
    print(f"\n{len(original):,} rows of {original.shape[1]}, {len(queries)} queries, cosine.")
    return about, rows


def read_back(spec, path, args):
    if spec["by"] == "blosc2":
        import blosc2

        return blosc2.open(str(path), mode="r")[:]
    unpacked = FOLDER / "unpacked.npy"
    call([args.cvc, "unpack", str(path), "-o", str(unpacked)])
    values = np.load(unpacked)
    unpacked.unlink()
    return values


def recall(values, queries, truth, top):
    """The share of the true nearest rows among those found, by cosine in float64; ties go to the lower row."""
    nearest = np.argsort(-(unit(queries) @ unit(values).T), axis=1, kind="stable")[:, :top]
    hits = sum(len(np.intersect1d(*pair)) for pair in zip(nearest, truth[:, :top]))
    return hits / nearest.size


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def record(name, about, rows):
    path = HERE / "record" / f"{about['date']}-{name}.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        for key, value in (about | {"command": f"cargo xtask bench {name}"}).items():
            file.write(f"# {key}: {' '.join(str(value).split())}\n")
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"recorded in benches/record/{path.name}")
    return path


KINDS = {
    "engines": run_engines,
    "memory": run_memory,
    "recall": run_recall,
    "search": search.run_search,
    "search recall": search.run_recall,
    "search limited": search.run_limited,
}


if __name__ == "__main__":
    main()
