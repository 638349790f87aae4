"""The sets of vectors of `make bench-vector`, with their true neighbours: data.make(folder, name, quick)."""
import os

import numpy as np

K = 10
SHARES = (1000, 400, 100, 50, 10, 1)  # of a thousand: the rows that pass a filter
CLUSTERS = 256


def clustered(n, n_queries, dims=384, latent=48):
    """Unit vectors as embeddings lie: clusters in few directions, bent into many, with a little of everything."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((CLUSTERS, latent)).astype(np.float32)
    spread = random.standard_normal((latent, dims)).astype(np.float32) / np.sqrt(latent)
    cluster = random.integers(0, CLUSTERS, n + n_queries)
    inside = centres[cluster] + 0.7 * random.standard_normal((n + n_queries, latent)).astype(np.float32)
    vectors = inside @ spread + 0.1 * random.standard_normal((n + n_queries, dims)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:n], vectors[n:], cluster[:n].astype(np.int32)


def read_bigann(folder):
    raw = np.fromfile(os.path.join(folder, "base.u8bin"), np.uint8)
    vectors = raw[8:].reshape(-1, 128).astype(np.float32)
    return vectors[:9800], vectors[9800:], np.zeros(9800, np.int32)


def nearest(base, queries, metric, passing=None):
    """Ids of the K nearest, -1 where there are fewer."""
    ids = np.arange(len(base)) if passing is None else np.flatnonzero(passing)
    rows = base[ids]
    dots = queries @ rows.T
    far = -dots if metric == "cosine" else (rows * rows).sum(1)[None] - 2 * dots
    n = min(K, len(ids))
    first = np.argpartition(far, n - 1, axis=1)[:, :n]
    order = np.take_along_axis(far, first, 1).argsort(1)
    out = np.full((len(queries), K), -1, np.int32)
    out[:, :n] = ids[np.take_along_axis(first, order, 1)]
    return out


def share_of(n):
    return (np.arange(n, dtype=np.int64) * 7919 + 13) % 1000


class Set:
    def __init__(self, folder, name, quick, shared):
        self.folder, self.name = os.path.join(folder, name), name
        os.makedirs(self.folder, exist_ok=True)
        self.metric = "cosine" if name != "bigann10k" else "l2"
        if name == "bigann10k":
            self.base, self.queries, self.cluster = read_bigann(shared)
        else:
            self.base, self.queries, self.cluster = clustered(20000 if quick else 100000, 300 if quick else 1000)
        self.write("base.f32", self.base)
        self.write("queries.f32", self.queries)
        self.write("cluster.i32", self.cluster)
        self.write("truth.i32", nearest(self.base, self.queries, self.metric))

    def write(self, name, array):
        np.ascontiguousarray(array).tofile(os.path.join(self.folder, name))

    def read(self, name):
        return np.fromfile(os.path.join(self.folder, name), np.int32).reshape(-1, K)

    def filters(self):
        """(name, passing rows, filter of ours)."""
        share = share_of(len(self.base))
        for most in SHARES:
            yield "%g %%" % (most / 10), share < most, '{"share":{"$lt":%d}}' % most
        for most in (26, 13, 3):
            yield "clusters, %d %%" % round(100 * most / CLUSTERS), self.cluster < most, '{"cluster":{"$lt":%d}}' % most
