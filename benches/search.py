"""Benches of search: times beside rivals, what is found, and a file that is larger than the memory.

Whatever was searched, a row counts as found if its cosine (or distance) to the query, computed from the original rows in float64,
is as good as that of the last of the true nearest. So rows that are equally near are equally right.
"""

import os
import re
import statistics
import sys
import threading
import time

import numpy as np

import data
from harness import FOLDER, HERE, Failed, Missing, Others, Process, call, cpu_seconds, crc32_of, engines_of
from harness import machine, peak_rss, print_goals, ratio, spread

# Float64 values of rows at a time.
BATCH = 10_000
# Threads of some libraries spin for some time after their work, which must not be the next engine's.
PAUSE_S = 0.05


# Benches of the kind `search`.


def run_search(name, definition, args):
    print(f"\n== {name}: {definition['title']}")
    rows_at = data.make(FOLDER, definition["data"])
    queries_at = data.make(FOLDER, definition["queries"])
    if args.rows:
        part = np.load(rows_at, mmap_mode="r")[: args.rows]
        rows_at = FOLDER / "part.npy"
        np.save(rows_at, part)
    about = machine()
    about["threads"] = about["cores"]
    unpackable = pack_all(definition, rows_at, args)
    truth = Truth(rows_at, queries_at, definition["metric"], definition["k"])
    engines, found = [], {}
    try:
        for spec in definition["engine"]:
            try:
                if spec.get("file") in unpackable:
                    raise Failed(unpackable[spec["file"]])
                engine = Searcher(spec, definition, rows_at, queries_at, about["threads"], args)
            except Failed as error:
                skip(spec, error, about)
                continue
            engines.append(engine)
            about[f"engine {engine.name}"] = engine.version
            found[engine.name] = round(check(engine, spec, truth, definition), 6)
        print(f"{len(engines)} engines checked; {definition['rounds']} rounds")
        others = Others(engines)
        rows = measure(engines, definition, found)
        about["cores busy with other work during the run"] = others.cores()
    finally:
        for engine in engines:
            engine.stop()
    for part in definition["parts"]:
        own = [row for row in rows if row["queries"] == part["count"]]
        print_part(definition, part, own)
        print_goals([goal for goal in definition.get("goal", []) if goal["queries"] == part["count"]], own)
    print(f"Other work on the machine kept {about['cores busy with other work during the run']} cores busy meanwhile.")
    return about, rows


class Searcher(Process):
    """One way to search, in a process of its own, with its rows in memory."""

    def __init__(self, spec, definition, rows_at, queries_at, threads, args):
        request = {"queries": str(queries_at), "k": definition["k"], "metric": definition["metric"], "threads": threads}
        request["path"] = str(FOLDER / spec["file"] if "file" in spec else rows_at)
        request |= spec.get("request", {})
        command = [args.search] if spec["worker"] == "cvc" else [sys.executable, str(HERE / "engine.py")]
        # What libraries go by that have no setting of their own.
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        super().__init__(spec["name"], command, {name: str(threads) for name in names})
        try:
            hello = self.ask(dict(request, do="hello", kind="search"))
            self.version = f"{hello['engine']} {hello['detail']}".strip()
            self.scanned_bytes = self.ask(dict(request, do="open_search"))["scanned_bytes"]
        except Failed:
            self.stop()
            raise

    def measure(self, count, first):
        before = cpu_seconds(self.process.pid)
        answer = self.ask({"do": "search", "count": count, "first": first})
        after = cpu_seconds(self.process.pid)
        cpu = "" if before is None else round(after - before, 6)
        return {"wall_s": round(answer["wall_s"], 6), "cpu_s": cpu}


class Truth:
    """The scores of the true nearest rows of each query, from the original rows in float64."""

    def __init__(self, rows_at, queries_at, metric, k):
        self.rows, self.queries = np.load(rows_at, mmap_mode="r"), np.load(queries_at)
        self.metric, self.k = metric, k
        best = np.empty((len(self.queries), 0))
        for start in range(0, len(self.rows), BATCH):
            scores = scored(metric, self.queries, self.rows[start : start + BATCH])
            best = -np.sort(-np.hstack([best, scores]), axis=1)[:, :k]
        self.last = best[:, -1]

    def recall(self, indices, tolerance):
        """The share of the true nearest that were found; a row that is named twice counts once."""
        hits = 0
        for query, last, rows in zip(self.queries, self.last, indices):
            rows = np.unique(np.array(rows, dtype=np.int64))
            hits += int((scored(self.metric, query[None], self.rows[rows]) >= last - tolerance).sum())
        return hits / (self.k * len(self.queries))


def scored(metric, queries, rows):
    """A score for each pair, in float64; more is nearer."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        return (queries / norms(queries)) @ (rows / norms(rows)).T
    # Differences are exact where values are whole numbers, and products need no less.
    return 2 * queries @ rows.T - (rows * rows).sum(axis=1) - (queries * queries).sum(axis=1)[:, None]


def norms(rows):
    return np.linalg.norm(rows, axis=1, keepdims=True)


def check(engine, spec, truth, definition):
    """What an engine finds, all queries at once and the first by itself; before anything is timed."""
    answer = engine.ask({"do": "search", "count": len(truth.queries), "answer": True})["indices"]
    if any(len(rows) != truth.k for rows in answer):
        raise Failed(f"{engine.name}: a query has not {truth.k} rows")
    alone = engine.ask({"do": "search", "count": 1, "answer": True})["indices"]
    found = truth.recall(answer, definition["tolerance"])
    print(f"{engine.name}: recall@{truth.k} {found:.4f}")
    if found < spec.get("least_recall", 0):
        raise Failed(f"{engine.name}: recall@{truth.k} is {found}, less than {spec['least_recall']}")
    # An engine that goes another way for one query may find others by accident, but not fewer that are right.
    if spec.get("least_recall") == 1.0 and Truth.recall(only_first(truth), alone, definition["tolerance"]) != 1.0:
        raise Failed(f"{engine.name}: one query by itself has another answer")
    return found


def only_first(truth):
    first = object.__new__(Truth)
    first.rows, first.metric, first.k = truth.rows, truth.metric, truth.k
    first.queries, first.last = truth.queries[:1], truth.last[:1]
    return first


def pack_all(definition, rows_at, args):
    """Packs the files, and says why for those that cannot be packed and may be missing."""
    unpackable = {}
    for packed in definition.get("packed", []):
        try:
            pack(packed["options"], rows_at, FOLDER / packed["file"], args)
        except Failed as error:
            if not (packed.get("optional") and unknown(error)):
                raise
            unpackable[packed["file"]] = str(error)
    return unpackable


def pack(options, rows_at, path, args):
    call([args.cvc, "pack", str(rows_at), "-o", str(path), *(word.format(rows=rows_at) for word in options)])


def unknown(error):
    """Whether the program does not know a codec; whatever else goes wrong ends the run."""
    return "has the codecs" in str(error)


def skip(spec, error, about):
    if not spec.get("optional"):
        raise error
    # The places of this machine are nobody's business.
    reason = re.sub(r"/\S*/", "", str(error)).removeprefix(f"{spec['name']}: ").splitlines()[0]
    if f"skipped {spec['name']}" not in about:
        print(f"skipped: {spec['name']}: {reason}")
    about[f"skipped {spec['name']}"] = reason


def measure(engines, definition, found):
    rows = []
    for turn in range(definition["warmup"] + definition["rounds"]):
        first = turn % len(engines)
        for part in definition["parts"]:
            for engine in engines[first:] + engines[:first]:
                time.sleep(PAUSE_S)
                # The same queries for all. What a process finds when it wakes up is left out, where little is done at a time.
                at = [(turn * part["repeat"] + n) * part["count"] % 100 for n in range(part["repeat"])]
                results = [engine.measure(part["count"], first) for first in at]
                results = sorted(results[1:] or results, key=lambda result: result["wall_s"])
                result = results[len(results) // 2]
                if turn >= definition["warmup"]:
                    row = {"engine": engine.name, "queries": part["count"], "round": turn - definition["warmup"] + 1, **result}
                    rows.append(row | {"scanned_bytes": engine.scanned_bytes, "recall": found[engine.name]})
    return rows


def print_part(definition, part, rows):
    by_engine = engines_of(rows)
    has_cpu = rows[0]["cpu_s"] != ""
    baseline = by_engine.get(definition["baseline"])
    head = ["engine", "wall ms", "cpu ms", "scanned GB/s", "wall / baseline", "cpu / baseline", f"recall@{definition['k']}", "scanned MB"]
    print(f"\n{part['title']}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in (spec["name"] for spec in definition["engine"] if spec["name"] in by_engine):
        own = by_engine[name]
        size = own[0]["scanned_bytes"]
        rate = size / statistics.median(row["wall_s"] for row in own) / 1e9
        cells = [name, spread(own, "wall_s", 1e3), spread(own, "cpu_s", 1e3) if has_cpu else "", f"{rate:.2f}"]
        cells.append(ratio(own, baseline, "wall_s"))
        cells.append(ratio(own, baseline, "cpu_s") if has_cpu else "")
        print(f"| {' | '.join([*cells, format(own[0]['recall'], '.4f'), f'{size / 1e6:.1f}'])} |")
    print(f"\nms: median (least..most) of {definition['rounds']} rounds. Ratios: of the medians (median of the ratios round by")
    print(f"round). The baseline is `{definition['baseline']}`.")


# Benches of the kind `search recall`.


def run_recall(name, definition, args):
    """What search over packed rows finds of the rows that are nearest in the original ones."""
    print(f"\n== {name}: {definition['title']}")
    folder, k = HERE.parent / definition["folder"], definition["k"]
    sets = definition["set"]
    missing = [part[key] for part in sets for key in ("rows", "queries", "truth") if not (folder / part[key]).exists()]
    if missing:
        raise Missing(f"there is no {', no '.join(missing)} in {definition['folder']} beside the repository")
    about, rows, engine = machine(), [], Process("cvc", [args.search])
    path = FOLDER / "recall.cvc"
    try:
        for part in sets:
            rows_at, queries_at, truth_at = (folder / part[key] for key in ("rows", "queries", "truth"))
            about |= {at.name: f"crc32 {crc32_of(at)}" for at in (rows_at, queries_at, truth_at)}
            truth = Truth(rows_at, queries_at, part["metric"], k)
            # So that ours and theirs mean the same by nearest.
            if truth.recall(np.load(truth_at)[:, :k], definition["tolerance"]) != 1.0:
                raise Failed(f"{part['truth']} does not name the nearest rows")
            for spec in definition["file"]:
                try:
                    pack(spec["options"], rows_at, path, args)
                except Failed as error:
                    if not unknown(error):
                        raise
                    skip(spec, error, about)
                    continue
                request = {"path": str(path), "queries": str(queries_at), "k": k, "metric": part["metric"]}
                scanned = engine.ask(request | spec.get("request", {}) | {"do": "open_search"})["scanned_bytes"]
                answer = engine.ask({"do": "search", "count": len(truth.queries), "answer": True})["indices"]
                found = truth.recall(answer, definition["tolerance"])
                row = {"set": part["name"], "metric": part["metric"], "file": spec["name"], "file_bytes": path.stat().st_size}
                rows.append(row | {"scanned_bytes": scanned, f"recall@{k}": round(found, 6)})
                least = spec.get("least", {}).get(part["name"], {}).get(part["metric"], 0)
                if found < least:
                    raise Failed(f"{spec['name']}: recall@{k} on {part['name']} by {part['metric']} is {found}, less than {least}")
    finally:
        engine.stop()
        path.unlink(missing_ok=True)
    print_recall(sets, definition["file"], rows, f"recall@{k}")
    return about, rows


def print_recall(sets, files, rows, key):
    head = ["file", *(f"{part['name']}, {part['metric']}" for part in sets)]
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for spec in files:
        own = {(row["set"], row["metric"]): f"{row[key]:.4f}" for row in rows if row["file"] == spec["name"]}
        if own:
            print(f"| {' | '.join([spec['name'], *(own.get((part['name'], part['metric']), '') for part in sets)])} |")


# Benches of the kind `search limited`.


def run_limited(name, definition, args):
    """Searches a file that is several times larger than the memory that the process may have."""
    print(f"\n== {name}: {definition['title']}")
    rows_at, queries_at = (data.make(FOLDER, definition[key]) for key in ("data", "queries"))
    path = FOLDER / "limited.cvc"
    pack(definition["options"], rows_at, path, args)
    # What was written is on the disk before it is read from there.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    size, limit = path.stat().st_size, int(definition["limit_mb"] * 1e6)
    if size < definition["times"] * limit:
        raise Failed(f"{size} bytes are less than {definition['times']} times {limit}")
    about = machine()
    about["limit"] = f"{limit} bytes of address space"
    request = {"do": "open_search", "path": str(path), "queries": str(queries_at), "k": definition["k"], "metric": definition["metric"]}
    rows, answers = [], {}
    try:
        free = Process("without a limit, mapped", [args.search])
        free.ask(request)
        for count in definition["counts"]:
            answers[count] = found_by(free, count)
            for turn in range(definition["rounds"]):
                rows.append(limited_row("search, mapped, no limit", "warm", count, turn, free.ask({"do": "search", "count": count}), free))
        free.stop()

        limited = Process("with a limit", [args.search], {"MALLOC_ARENA_MAX": "1"}, limit)
        # So that the limit is known to be one.
        try:
            limited.ask(request)
        except Failed as error:
            print(f"A map of {size} bytes with a limit of {limit}: {str(error).split(': ', 1)[1]}")
        else:
            raise Failed("the file could be mapped, so nothing is limited")
        for turn in range(definition["rounds"]):
            for state in ("not in the page cache", "warm"):
                rows.append({"what": "read", "state": state, "queries": 0, "round": turn + 1, **read_whole(path, state, about["cores"])})
                for count in definition["counts"]:
                    limited.ask(request | {"map": False})
                    if state == "warm":
                        limited.ask({"do": "search", "count": 1})
                    else:
                        forget(path)
                    answer = limited.ask({"do": "search", "count": count})
                    rows.append(limited_row("search, limited", state, count, turn, answer, limited))
        for count in definition["counts"]:
            if found_by(limited, count) != answers[count]:
                raise Failed(f"{count} queries have another answer with the limit")
        if peak_rss(limited.process.pid) > limit:
            raise Failed("the peak is above the limit")
        limited.stop()
    finally:
        path.unlink()
    print_limited(definition, rows, size)
    return about, rows


def found_by(engine, count):
    answer = engine.ask({"do": "search", "count": count, "answer": True})
    return answer["indices"], answer["scores"]


def limited_row(what, state, count, turn, answer, engine):
    row = {"what": what, "state": state, "queries": count, "round": turn + 1, "wall_s": round(answer["wall_s"], 6)}
    return row | {"peak_rss_bytes": peak_rss(engine.process.pid)}


def read_whole(path, state, threads):
    """How long it takes to read the file and do nothing with it: a share for each thread, in order, into one buffer each."""
    forget(path) if state != "warm" else None
    size = path.stat().st_size
    bounds = np.linspace(0, size, threads + 1, dtype=np.int64).tolist()

    def read(start, end):
        buffer = bytearray(1 << 20)
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            while start < end and (got := file.readinto(buffer)):
                start += got

    workers = [threading.Thread(target=read, args=pair) for pair in zip(bounds, bounds[1:])]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"wall_s": round(time.perf_counter() - started, 6), "peak_rss_bytes": ""}


def forget(path):
    """Takes the file out of the page cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def print_limited(definition, rows, size):
    print("\n| what | file | queries | wall s | file GB/s | peak MB |\n|---|---|---|---|---|---|")
    medians = {}
    for row in rows:
        key = (row["what"], row["state"], row["queries"])
        if key in medians:
            continue
        own = [other for other in rows if (other["what"], other["state"], other["queries"]) == key]
        medians[key] = statistics.median(other["wall_s"] for other in own)
        peaks = [other["peak_rss_bytes"] for other in own if other["peak_rss_bytes"]]
        cells = [row["what"], row["state"], str(row["queries"] or ""), spread(own, "wall_s", 1), f"{size / medians[key] / 1e9:.2f}"]
        print(f"| {' | '.join([*cells, f'{max(peaks) / 1e6:.0f}' if peaks else ''])} |")
    print(f"\nA file of {size / 1e6:.0f} MB, and {definition['limit_mb']} MB of memory; median (least..most) of {definition['rounds']} rounds.")
    for count in definition["counts"]:
        free = medians["search, mapped, no limit", "warm", count]
        for state in ("not in the page cache", "warm"):
            found = medians["search, limited", state, count] / max(free, medians["read", state, 0])
            said = "met" if found <= definition["at_most"] else "MISSED"
            slower = "searching it in memory" if free > medians["read", state, 0] else "reading it"
            print(f"goal: {count} queries, {state}: {found:.2f} of the time of {slower}, at most {definition['at_most']}: {said}")
