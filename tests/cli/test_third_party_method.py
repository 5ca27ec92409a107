"""The method of docs/adding-a-method.md, as an installed package registers it. Oracle: counts by hand."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tiny_ratings import ROWS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-method.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_guides_method_passes_the_conformance_suite(tmp_path):
    (tmp_path / "recent_popularity.py").write_text(blocks("python")[0])
    (tmp_path / "test_recent_popularity.py").write_text(blocks("python test")[0])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_recent_popularity.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^12 passed", ended.stdout, flags=re.MULTILINE), ended.stdout


def test_the_guides_method_has_under_40_lines_of_code():
    (code,) = blocks("python")
    assert sum(bool(line.strip()) for line in code.splitlines()) < 40


def test_the_guides_method_runs_as_an_installed_package(ratings, tmp_path):
    (code,), (project,) = blocks("python"), blocks("toml")
    site = tmp_path / "site"
    metadata = site / "recent_popularity-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "recent_popularity.py").write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: recent-popularity\nVersion: 1.0\n")
    entry = re.search(r'^(recent-popularity) = "(.*)"$', project, flags=re.MULTILINE)
    assert entry is not None
    (metadata / "entry_points.txt").write_text(f"[harness.methods]\n{entry[1]} = {entry[2]}\n")

    window = ["--methods", "recent-popularity", "--set", "recent-popularity.window=1", "--json"]
    command = [sys.executable, "-m", "harness", "run", "--dataset", str(ratings), *window]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (cell,) = json.loads(ended.stdout)["cells"]

    # By hand: the last training item is each user's third from the end; the most frequent one is recommended first.
    rows = [row.split(",") for row in ROWS]
    ids = {item: place + 1 for place, item in enumerate(dict.fromkeys(item for _, item, _, _ in rows))}
    last = Counter(ids[rows[6 * user + 3][1]] for user in range(40))
    best = min(last, key=lambda item: (-last[item], item))
    import polars as pl

    ranks = pl.read_parquet(tmp_path / cell["folder"] / "ranks.parquet")
    assert set(ranks["top_items"].list.first().to_list()) == {best}
