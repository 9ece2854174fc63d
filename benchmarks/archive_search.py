"""Measure the search of an archive by an example: seconds of a search over many embeddings, and of making the index.

    python benchmarks/archive_search.py [--embeddings 10000000] [--features 384] [--rounds 10]

An index of random 8-bit embeddings has the form of that of an archive, one embedding per second of audio; 10,000,000 of
384 features, the length of those of mn04, take 3.9 GB of disk, and of memory for files. The first search reads them
from disk. The rate at which an index is made is that of a part with 100,000 embeddings.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from _figures import add_record_flag, describe_environment, print_table

from kerastag.archive import EmbeddingIndex
from kerastag.archive.tables import TableWriter, name_part

_PART_ROWS, _WRITTEN_ROWS = 1_000_000, 100_000


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embeddings", type=int, default=10_000_000, help="Number of them (default: %(default)s).")
    parser.add_argument("--features", type=int, default=384, help="Length of each (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=10, help="Number of searches (default: %(default)s).")
    add_record_flag(parser)
    args = parser.parse_args()
    print(describe_environment())
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        archive, needed = Path(name), args.embeddings * (args.features + 4)
        if shutil.disk_usage(archive).free < 2 * needed:
            raise SystemExit(f"{archive}: needs {2 * needed / 1e9:.1f} GB of disk")
        write_part(archive, rng.standard_normal((_WRITTEN_ROWS, args.features), np.float32))
        start = time.perf_counter()
        EmbeddingIndex(archive)
        rate = _WRITTEN_ROWS / (time.perf_counter() - start)
        replace_index(archive / "search", args.embeddings, args.features, rng)
        index = EmbeddingIndex(archive)
        rows = [("making an index, embeddings per second", f"{rate:,.0f}", "–")]
        queries = rng.standard_normal((args.rounds + 1, args.features), np.float32)
        seconds = [measure_search(index, query) for query in queries]
        (first, _), *rest = seconds
        rows.append((f"search of {len(index):,} embeddings of {args.features} features, s", f"{first:.2f}", "first"))
        for what, values in zip(
            ("the same again, s", "the same, s of all cores"), zip(*rest, strict=True), strict=True
        ):
            rows.append((what, f"{statistics.median(values):.3f}", f"{max(values):.3f}"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(("peak memory with the mapped file, MiB", f"{memory:,.0f}", "–"))
    print_table("archive_search", ["what", "median", "slowest"], rows, args.record)


def write_part(archive: Path, embeddings: np.ndarray) -> None:
    """Write the table of embeddings of one part."""
    path = archive / "embeddings" / name_part(0)
    path.parent.mkdir()
    writer = TableWriter(path, "embeddings", {"file": ["a.wav"]}, {}, embeddings.shape[1])
    starts = np.arange(len(embeddings), dtype=np.float64)
    columns = {"start_seconds": starts, "end_seconds": starts + 1, "embedding": embeddings}
    writer.append({"file": np.zeros(len(embeddings), np.int64), **columns})
    writer.close()


def replace_index(index: Path, num_rows: int, num_features: int, rng: np.random.Generator) -> None:
    """Replace the embeddings of an index by many random ones."""
    content = json.loads((index / "index.json").read_text(encoding="utf-8"))
    with (index / "embeddings.int8").open("wb") as embeddings, (index / "norms.float32").open("wb") as norms:
        for first in range(0, num_rows, _PART_ROWS):
            codes = rng.integers(-127, 128, (min(_PART_ROWS, num_rows - first), num_features), np.int8)
            embeddings.write(codes.tobytes())
            norms.write(np.sqrt(np.einsum("ij,ij->i", codes, codes, dtype=np.float32)).tobytes())
    (index / "index.json").write_text(json.dumps({**content, "rows": [num_rows]}), encoding="utf-8")


def measure_search(index: EmbeddingIndex, query: np.ndarray) -> tuple[float, float]:
    """Return the seconds of one search without reading the names of the files that it finds, and those of all cores."""
    start, start_of_cores = time.perf_counter(), time.process_time()
    index.find_rows(query, 50)
    return time.perf_counter() - start, time.process_time() - start_of_cores


if __name__ == "__main__":
    main()
