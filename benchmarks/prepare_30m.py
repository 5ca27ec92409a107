"""Time and peak memory of reading, 5-core filtering and preparing 30 million synthetic interactions.

    python benchmarks/prepare_30m.py [--rows 30000000] [--format csv|parquet] [--folder TEMP]

The file looks like an Amazon 2023 rating file without its grouping: users are interleaved and times unordered, so
that every step has its full work. The measured part runs in a process of its own; its peak includes the pages of
the mapped input file. Aim: under 2 minutes and 6 GB on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from harness.data.formats import Columns, read_interactions
from harness.data.prepare import PrepareConfig, prepare

USER, ITEM, TIME = "user_id", "parent_asin", "timestamp"
CHUNK = 3_000_000
SEED = 7


def generate(path: Path, rows: int) -> None:
    """Write `rows` interactions: a tenth as many users, a sixtieth as many items, both long-tailed."""
    stream = np.random.default_rng(SEED)
    num_users, num_items = max(rows // 10, 10), max(rows // 60, 10)
    chunks = []
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        users = (num_users * stream.random(count) ** 1.3).astype(np.int64)
        items = (num_items * stream.random(count) ** 2.0).astype(np.int64)
        chunk = pl.DataFrame({"user": users, "item": items}).select(
            pl.format("A{}", pl.col("user").cast(pl.String).str.zfill(27)).alias(USER),
            pl.format("B{}", pl.col("item").cast(pl.String).str.zfill(9)).alias(ITEM),
            pl.Series("rating", stream.integers(1, 6, count).astype(np.float64)),
            pl.Series(TIME, stream.integers(1_262_304_000_000, 1_693_526_400_000, count)),
        )
        if path.suffix == ".parquet":
            chunks.append(chunk)
            continue
        with path.open("ab") as file:
            chunk.write_csv(file, include_header=start == 0)
    if chunks:
        pl.concat(chunks).write_parquet(path)


def measure(path: Path, folder: Path) -> dict[str, float]:
    """Seconds of each step, and this process's peak memory in GB."""
    started = time.perf_counter()
    raw = read_interactions(path, columns=Columns(USER, ITEM, TIME) if path.suffix == ".parquet" else None)
    read = time.perf_counter()
    dataset = prepare(raw, PrepareConfig(core=5, repeats="drop"), folder, "benchmark")
    done = time.perf_counter()
    return {
        "read_s": read - started,
        "prepare_s": done - read,
        "total_s": done - started,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "users": dataset.num_users,
        "items": dataset.num_items,
        "train_interactions": len(dataset.train.items),
    }


def main() -> None:
    """Generate in this process, measure in another, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000_000)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary files go")
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.measure.parent / "prepared")))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / f"interactions.{options.format}"
        generate(path, options.rows)
        print(f"generated {options.rows:,} rows, {path.stat().st_size / 1e9:.2f} GB", file=sys.stderr)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
