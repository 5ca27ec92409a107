"""`harness bench scale` from the command line. Oracles: the sizes asked for, and the files named in its help."""

import csv
import json
import os
import subprocess
import sys

import pytest

from harness.bench.scale import Point
from harness.cli import scale as command

SIZES = (1000, 3000, 9000)
POINTS = [
    Point("trie", 33, 0.0123, 0.0101, 0.0456, 12.0, 300.0),
    Point("trie", 100, 1.5, 0.5, 2.25, 40.0, 330.0),
    Point("trie", 300, 3.0, 2.5, 3.5, 120.0, 410.0),
]


def test_a_small_run_measures_in_processes_of_their_own_and_writes_table_and_figure(tmp_path):
    pytest.importorskip("matplotlib")
    line = [sys.executable, "-m", "harness", "bench", "scale", "--quick", "--max", "9000", "--only", "trie,prepare"]
    options = ["--repeats", "2", "--threads", "1", "--json", "--out", "figures", "--format", "svg"]
    ended = subprocess.run(
        [*line, *options], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    expected = {(name, size) for name in ("trie", "prepare") for size in SIZES}
    assert {(point["measure"], point["size"]) for point in found["points"]} == expected
    assert all(0 < point["least"] <= point["seconds"] <= point["most"] for point in found["points"])
    assert all(point["peak_mb"] > 50 for point in found["points"])
    assert [fit["measure"] for fit in found["fits"]] == ["prepare", "trie"]
    assert all(fit["time"]["error"] >= 0 for fit in found["fits"])
    assert found["failed"] == []
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"scale.csv", "scale.svg"}
    with (tmp_path / "figures" / "scale.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(expected)


def test_the_tables_show_times_and_exponents_and_a_failure_ends_with_1(harness, monkeypatch):
    def measure_growth(names, scene, most, report):
        assert (names, most, scene.points, scene.repeats) == (["trie"], 20_000, 3, 3)
        return POINTS, ["trie-900: its process was killed"]

    monkeypatch.setattr("harness.bench.scale.measure_growth", measure_growth)
    ended = harness("bench", "scale", "--quick", "--only", "trie")
    assert ended.code == 1
    assert "trie-900: its process was killed" in ended.err
    assert "10.1 to 45.6 ms" in ended.out
    assert "0.50 to 2.25 s" in ended.out
    assert "small networks" in ended.out
    assert "no" in ended.out.partition("Fitted exponents")[2]


def test_an_unknown_measurement_is_refused_in_one_line(harness):
    ended = harness("bench", "scale", "--only", "tri,rankin9")
    assert ended.code == 2
    assert "unknown measurement 'rankin9'" in ended.error


def test_an_unknown_format_is_refused_before_anything_is_measured(harness):
    ended = harness("bench", "scale", "--out", "figures", "--format", "svg,gif")
    assert ended.code == 2
    assert "must be of png, svg, pdf, with commas between, but got 'gif'" in ended.error


def test_help_shows_an_example(harness):
    ended = harness("bench", "scale", "--help")
    assert ended.code == 0
    assert "harness bench scale --only softmax,ranking" in " ".join(ended.out.split())


def test_an_end_of_a_range_has_the_unit_of_the_other():
    assert command._range(0.9, 1.5) == "0.90 to 1.50 s"
    assert command._range(0.0009, 0.5) == "0.9 to 500.0 ms"
