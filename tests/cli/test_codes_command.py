"""`harness codes`, and a generator trained on the codes of a file. Oracle: facts of codes that are made by hand."""

import json
from pathlib import Path

import pytest
from tiny_ratings import ROWS


@pytest.fixture
def codes(ratings: Path) -> Path:
    """Codes of the ratings' items: pairs of neighbours share both of them."""
    items = dict.fromkeys(row.split(",")[1] for row in ROWS)
    path = ratings.with_name("own.index.json")
    path.write_text(json.dumps({item: [f"<a_{place // 4}>", f"<b_{place // 2}>"] for place, item in enumerate(items)}))
    return path


def test_codes_are_described_compared_and_converted(harness, ratings: Path, codes: Path) -> None:
    count = len(json.loads(codes.read_text()))
    ended = harness("codes", "describe", str(codes), "--dataset", str(ratings), "--json")
    (facts,) = json.loads(ended.out)
    assert (facts["items"], facts["levels"], facts["largest_group"]) == (count, 2, 2)
    assert facts["used_codes"] == [-(-count // 4), -(-count // 2)]
    shown = harness("codes", "describe", str(codes), "--dataset", str(ratings)).out
    assert "own.index.json" in shown
    assert "Most items in one tuple" in shown
    other = codes.with_name("own.parquet")
    assert harness("codes", "export", str(codes), "--out", str(other), "--dataset", str(ratings)).code == 0
    ended = harness("codes", "compare", str(codes), str(other), "--dataset", str(ratings), "--json")
    (found,) = json.loads(ended.out)
    assert (found["same_tuples"], found["level_agreement"]) == (1.0, pytest.approx([1.0, 1.0]))
    arguments = ["--out", "unique.npy", "--dataset", str(ratings), "--last-codes", "4", "--json"]
    ended = harness("codes", "reassign", str(codes), *arguments)
    assert json.loads(ended.out) == {"items": count, "moved": count // 2, "left": 0, "out": "unique.npy"}
    assert "needs two files" in harness("codes", "compare", str(codes), "--dataset", str(ratings)).err


def test_a_generator_is_trained_on_the_codes_of_a_file_and_another_content_is_another_row(
    harness, ratings: Path, codes: Path
) -> None:
    arguments = ["--dataset", str(ratings), "--methods", "tiger", "--set", f"tiger.codes=file:{codes}"]
    arguments += ["--set", "tiger.training.epochs=1", "--json"]
    ended = harness("run", *arguments)
    (first,) = json.loads(ended.out)["cells"]
    shown = json.loads(harness("show", first["folder"], "--json").out)
    assert shown["health"]["largest_group"] == 2
    assert any(line.startswith("item codes from the file own.index.json@") for line in shown["assumptions"])
    codes.write_text(codes.read_text().replace("<a_0>", "<a_1>"))
    (second,) = json.loads(harness("run", *arguments).out)["cells"]
    assert second["folder"] != first["folder"]
    codes.write_text("{}")
    ended = harness("run", *arguments)
    assert ended.code == 2
    assert "must have codes for all" in ended.err
