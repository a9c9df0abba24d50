"""What all kinds of benches use: processes that answer requests, the machine as it is seen from outside them, medians."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".data"


class Failed(Exception):
    """A bench cannot be done, or an answer is wrong."""


class Missing(Exception):
    """What a bench needs is not on this machine, and nothing can make it."""


class Process:
    """A program that reads a request a line and answers each on a line; README.md has the protocol."""

    def __init__(self, name, command, environment=None, limit=None):
        self.name = name
        environment = os.environ | (environment or {})
        before = limit and (lambda: limit_memory(limit))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes, env=environment, preexec_fn=before)

    def ask(self, request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # What follows finds that it has ended.
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: the engine ended")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def limit_memory(limit):
    """Bytes of address space that this process may have; not on every system."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def call(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()}")


def crc32_of(path):
    crc32 = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            crc32 = zlib.crc32(piece, crc32)
    return f"{crc32:08x}"


def print_goals(goals, rows):
    """What the definition wants of the figures. Times decide nothing: other work on the machine can make them bad."""
    by_engine = engines_of(rows)
    for goal in goals:
        # Of several rivals the best.
        rivals = goal["rival"] if isinstance(goal["rival"], list) else [goal["rival"]]
        own, key = by_engine.get(goal["engine"]), goal["key"]
        if own and own[0][key] == "":
            continue
        others = {name: statistics.median(row[key] for row in by_engine[name]) for name in rivals if name in by_engine}
        # An optional engine can be missing.
        if not own or not others:
            print(f"goal: {key} of {goal['engine']}: not measured")
            continue
        best = min(others, key=others.get)
        found = statistics.median(row[key] for row in own) / others[best]
        said = "met" if found <= goal["at_most"] else "MISSED"
        print(f"goal: {key} of {goal['engine']} / {best}: {found:.3f}, at most {goal['at_most']}: {said}")


def engines_of(rows):
    by_engine = {}
    for row in rows:
        by_engine.setdefault(row["engine"], []).append(row)
    return by_engine


def spread(rows, key, scale):
    values = [row[key] * scale for row in rows]
    return f"{statistics.median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def ratio(rows, others, key):
    medians = [statistics.median(row[key] for row in part) for part in (rows, others)]
    by_round = statistics.median(a[key] / b[key] for a, b in zip(rows, others))
    return f"{medians[0] / medians[1]:.2f} ({by_round:.2f})"


# The machine, from outside the engines.


def cpu_seconds(pid):
    """Processor time of all threads of a process, user and system; nothing where the system cannot say."""
    if sys.platform != "linux":
        return None
    # clock_getcpuclockid(3), which Python does not have, makes this number.
    return time.clock_gettime((~pid << 3) | 2)


class Others:
    """How much of the machine went to work that is not ours: what says whether a run was quiet enough."""

    def __init__(self, engines):
        self.pids = [os.getpid()] + [engine.process.pid for engine in engines]
        self.before = self.now()

    def now(self):
        if sys.platform != "linux":
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy - sum(cpu_seconds(pid) for pid in self.pids)

    def cores(self):
        if self.before is None:
            return "an unknown number of"
        (start, before), (end, after) = self.before, self.now()
        return f"{max(0.0, (after - before) / (end - start)):.2f}"


def memory_of(pid):
    """The sizes in /proc/PID/status, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in sizes}


def peak_rss(pid):
    return memory_of(pid).get("VmHWM", "")


def machine():
    """What a figure depends on."""

    def said(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=True).stdout.strip()

    def found(path, key):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            return ""
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")

    changed = said("git", "status", "--porcelain", "--untracked-files=no")
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": found("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": found("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "transparent huge pages": huge.read_text().strip() if huge.exists() else "",
        "load average before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "",
        "rustc": said("rustc", "--version"),
        "commit": said("git", "rev-parse", "HEAD") + (" and changes" if changed else ""),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
