"""A peer of `make bench-vector`: peer.py NAME FOLDER N DIMS N_QUERIES METRIC, obeys lines and answers each with JSON.

  build                   seconds and bytes of memory
  search TRUTH EF [MASK]  all queries in one call with one thread; MASK: file of bytes, 1 for rows that pass
"""
import gc
import json
import os
import sys
import time

import numpy as np

K, M, EF_CONSTRUCTION = 10, 16, 200


def memory():
    with open("/proc/self/status") as f:
        return 1024 * next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


class Hnswlib:
    def __init__(self, base, metric):
        import hnswlib
        self.index = hnswlib.Index("cosine" if metric == "cosine" else "l2", base.shape[1])
        self.index.init_index(len(base), M=M, ef_construction=EF_CONSTRUCTION)
        self.index.set_num_threads(1)
        self.index.add_items(base, num_threads=1)

    def search(self, queries, ef, mask):
        if mask is not None:
            return None
        self.index.set_ef(ef)
        return self.index.knn_query(queries, K, num_threads=1)[0]


class Faiss:
    def __init__(self, base, metric):
        import faiss
        self.faiss = faiss
        faiss.omp_set_num_threads(1)
        kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        self.index = faiss.IndexHNSWFlat(base.shape[1], M, kind)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(base)

    def search(self, queries, ef, mask):
        params = self.faiss.SearchParametersHNSW(efSearch=ef)
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            params = self.faiss.SearchParametersHNSW(efSearch=ef, sel=self.faiss.IDSelectorBitmap(bits))
        return self.index.search(queries, K, params=params)[1]


class Usearch:
    dtype = "f32"

    def __init__(self, base, metric):
        from usearch.index import Index
        self.index = Index(ndim=base.shape[1], metric="cos" if metric == "cosine" else "l2sq", dtype=self.dtype,
                           connectivity=M, expansion_add=EF_CONSTRUCTION)
        self.index.add(np.arange(len(base)), base, threads=1)

    def search(self, queries, ef, mask):
        if mask is not None:
            return None
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


class UsearchI8(Usearch):
    dtype = "i8"


SIDES = {"hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch, "usearch-i8": UsearchI8}


def recall(found, truth):
    right = sum(len(np.intersect1d(f, t[t >= 0])) for f, t in zip(found.astype(np.int64), truth))
    return right / max(1, int((truth >= 0).sum()))


def main():
    name, folder, n, dims, n_queries, metric = sys.argv[1:]
    read = lambda file, kind: np.fromfile(os.path.join(folder, file), kind)
    base = read("base.f32", np.float32).reshape(int(n), int(dims))
    queries = read("queries.f32", np.float32).reshape(int(n_queries), int(dims))
    side = None
    for line in sys.stdin:
        words = line.split()
        if words[0] == "build":
            __import__(name.split("-")[0] if name != "faiss" else "faiss")
            gc.collect()
            before, begin = memory(), time.perf_counter()
            side = SIDES[name](base, metric)
            answer = {"seconds": time.perf_counter() - begin, "bytes": memory() - before}
        else:
            truth = read(words[1], np.int32).reshape(-1, K)
            mask = read(words[3], np.uint8) if len(words) > 3 else None
            side.search(queries[:1], int(words[2]), mask)
            begin = time.perf_counter()
            found = side.search(queries, int(words[2]), mask)
            seconds = time.perf_counter() - begin
            answer = {"qps": len(queries) / seconds, "recall": recall(found, truth)} if found is not None else {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
