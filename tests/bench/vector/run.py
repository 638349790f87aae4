"""libaiinfra's vector store beside hnswlib, faiss and usearch, for `make bench-vector`: the same vectors, one thread.

run.py BUILD   with a Python that has the peers, and in the environment:
  QUICK=1         20,000 vectors instead of 100,000
  SETS, PEERS     names, such as SETS=bigann10k PEERS="hnswlib usearch": only these
  JSON=file       writes the figures there too
  PAGE=file       where the tables go, between markers; docs/vector.md after a run of everything, otherwise
                  BUILD/bench/vector.md
  SHARED=folder   where vectors/bigann10k is, if anywhere

Each side is a process that answers lines. Peers answer all queries in one call, ours one by one through the public
functions. A side's figure at a recall is that of the least ef that reaches it. Nothing else should run on the machine.
"""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import numpy as np

import data
import report

HERE = os.path.dirname(os.path.abspath(__file__))
EFS = (10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 160, 200, 256, 320)
RECALLS = (0.95, 0.99)
FILTERED_EFS = (64, 128, 256, 512, 1024)
PEERS = ("hnswlib", "faiss", "usearch", "usearch-i8")
AUTO, EXACT, GRAPH = 0, 1, 2
CHURN_ROUNDS = 20


class Side:
    def __init__(self, command):
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("%s ended at: %s" % (self.process.args[0], line))
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_ours(build, set_):
    return Side([os.path.join(build, "bench", "vector_ours"), set_.folder, str(len(set_.base)), str(set_.base.shape[1]),
                 str(len(set_.queries)), "1" if set_.metric == "cosine" else "3"])


def start_peer(name, set_):
    return Side([sys.executable, os.path.join(HERE, "peer.py"), name, set_.folder, str(len(set_.base)),
                 str(set_.base.shape[1]), str(len(set_.queries)), set_.metric])


def sweep(search):
    """{recall: (queries a second, recall reached, ef)}, recalls that are never reached left out."""
    found, wanted = {}, list(RECALLS)
    for ef in EFS:
        answer = search(ef)
        while wanted and answer["recall"] >= wanted[0]:
            found[wanted.pop(0)] = (answer["qps"], answer["recall"], ef)
        if not wanted:
            break
    return found


# ---- one set ---------------------------------------------------------------------------------------------------------

class Rows:
    def __init__(self, set_):
        self.set, self.rows = set_.name, []

    def add(self, test, ours, peer, name, recall=None, better="more", **more):
        ratio = None if not peer or not ours else ours / peer if better == "more" else peer / ours
        self.rows.append(dict(set=self.set, test=test, recall=recall, ours=ours, peer=peer, peer_name=name, ratio=ratio,
                              **more))
        print("%-12s %-28s %12.6g  %-12s %12.6g  ratio %s" % (
            self.set, test, ours or 0, name, peer or 0, "%.2f" % ratio if ratio else "-"), flush=True)


def compare(rows, ours, peers):
    """Building, memory, queries a second at each recall: (build answer, sweep) of ours and of each peer."""
    for name, (built, found) in peers.items():
        rows.add("build, s", ours[0]["seconds"], built["seconds"], name, better="less")
        rows.add("bytes a vector", ours[0]["bytes"], built["bytes"], name, better="less")
        for want in RECALLS:
            mine, theirs = ours[1].get(want), found.get(want)
            rows.add("queries/s, recall %.2f" % want, mine and mine[0], theirs and theirs[0], name, mine and mine[1],
                     ef=mine and mine[2], peer_ef=theirs and theirs[2], peer_recall=theirs and theirs[1])


def per_vector(answer, n):
    return dict(answer, bytes=answer["bytes"] / n)


def measure_filters(rows, set_, ours, faiss):
    for name, passing, text in set_.filters():
        set_.write("truth_filter.i32", data.nearest(set_.base, set_.queries, set_.metric, passing))
        set_.write("mask.u8", passing.astype(np.uint8))
        mine = ours.ask("search truth_filter.i32 64 %d %s" % (AUTO, text))
        plan = ours.ask("explain 64 %s" % text)
        theirs = {"recall": 0}
        for ef in FILTERED_EFS if faiss else ():
            theirs = faiss.ask("search truth_filter.i32 %d mask.u8" % ef)
            if theirs["recall"] >= RECALLS[1]:
                break
        found = theirs["recall"] >= RECALLS[1]
        rows.add("filter %s, %s" % (name, plan["plan"]), mine["qps"], theirs["qps"] if found else None, "faiss",
                 mine["recall"], peer_recall=theirs["recall"])


def measure_peer(name, set_, filters):
    side = start_peer(name, set_)
    built = per_vector(side.ask("build"), len(set_.base))
    found = sweep(lambda ef: side.ask("search truth.i32 %d" % ef))
    return (built, found), side if filters else side.close()


def sqlite_rate(folder, set_, n, synchronous):
    """Rows of the same bytes into a table of SQLite, each in a transaction of its own."""
    path = os.path.join(folder, "plain.db")
    for end in ("", "-wal", "-shm"):
        if os.path.exists(path + end):
            os.remove(path + end)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=%s" % synchronous)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, vector BLOB, payload TEXT)")
    blobs = [set_.base[i % len(set_.base)].tobytes() for i in range(n)]
    begin = time.perf_counter()
    for i, blob in enumerate(blobs):
        db.execute("INSERT INTO t VALUES(?, ?, ?)", (i, blob, '{"share":%d,"cluster":%d}' % (i % 1000, i % 256)))
    rate = n / (time.perf_counter() - begin)
    db.close()
    return rate


def measure_inserts(rows, set_, ours, quick):
    n = 200 if quick else 1000
    for name, number, synchronous in (("durable", 1, "FULL"), ("not synchronised", -1, "NORMAL")):
        mine = ours.ask("single %d %d" % (n, number))["rate"]
        rows.add("rows/s one by one, %s" % name, mine, sqlite_rate(set_.folder, set_, n, synchronous), "SQLite")


def measure_churn(rows, set_, ours):
    """Rounds in which a tenth of the rows goes and comes back under new ids: the vectors stay those of the base."""
    n = len(set_.base)
    part = n // 10
    before = ours.ask("search truth.i32 32 %d" % GRAPH)["recall"]
    for round_ in range(CHURN_ROUNDS):
        ours.ask("churn %d %d" % (n + round_ * part, part))
    truth = set_.read("truth.i32").astype(np.int64)
    first = CHURN_ROUNDS * part  # the least id that is there
    ids = truth + (first - truth + n - 1) // n * n
    set_.write("truth_churn.i32", ids.astype(np.int32))
    after = ours.ask("search truth_churn.i32 32 %d" % GRAPH)["recall"]
    rows.add("recall after %d rounds of 10 %%" % CHURN_ROUNDS, after, before, "before", after)


def measure_set(build, set_, names, quick, read_gbs):
    rows, peers, faiss = Rows(set_), {}, None
    ours = start_ours(build, set_)
    loaded = ours.ask("load")
    built = per_vector(ours.ask("build"), len(set_.base))
    mine = (built, sweep(lambda ef: ours.ask("search truth.i32 %d %d" % (ef, GRAPH))))
    for name in names:
        peers[name], side = measure_peer(name, set_, name == "faiss")
        faiss = side or faiss
    compare(rows, mine, peers)
    exact = ours.ask("search truth.i32 64 %d" % EXACT)
    gbs = exact["qps"] * len(set_.base) * set_.base.shape[1] / 1e9
    rows.add("exact, GB/s of codes", gbs, read_gbs, "memory", exact["recall"], qps=exact["qps"])
    rows.add("rows/s, 1000 at a time", len(set_.base) / loaded["seconds"], None, "")
    if set_.name != "bigann10k":
        measure_filters(rows, set_, ours, faiss)
        measure_inserts(rows, set_, ours, quick)
        measure_churn(rows, set_, ours)
    for side in (ours, faiss):
        if side:
            side.close()
    return rows.rows


def main():
    build, quick = os.path.abspath(sys.argv[1]), bool(os.environ.get("QUICK"))
    shared = os.path.join(os.environ.get("SHARED", ""), "vectors", "bigann10k")
    names = os.environ.get("PEERS", " ".join(PEERS)).split()
    sets = os.environ.get("SETS", "clustered bigann10k").split()
    machine = json.loads(subprocess.run([os.path.join(build, "bench", "machine"), "1"], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout)
    with open("/proc/cpuinfo") as f:
        machine["name"] = next((line.split(": ")[1].strip() for line in f if line.startswith("model name")), "a CPU")
    folder = os.path.join(build, "bench", "vectors")
    rows, skipped = [], []
    for name in sets:
        if name == "bigann10k" and not os.path.exists(os.path.join(shared, "base.u8bin")):
            skipped.append(name)
            continue
        rows += measure_set(build, data.Set(folder, name, quick, shared), names, quick, machine["read_gbs"])
    shutil.rmtree(folder, ignore_errors=True)
    result = {"machine": machine, "quick": quick, "rows": rows}
    if os.environ.get("JSON"):
        with open(os.environ["JSON"], "w") as f:
            json.dump(result, f, indent=1)
    everything = not quick and "SETS" not in os.environ and "PEERS" not in os.environ
    page = os.environ.get("PAGE") or (os.path.join(HERE, "../../../docs/vector.md") if everything
                                      else os.path.join(build, "bench", "vector.md"))
    report.write(page, result)
    print("".join("skipped: %s, which needs SHARED\n" % name for name in skipped) + "wrote %s" % os.path.normpath(page))


if __name__ == "__main__":
    main()
