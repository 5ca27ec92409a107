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


def test_files_of_codes_are_evaluated_side_by_side_and_told_apart(harness, ratings: Path, codes: Path) -> None:
    unique = codes.with_name("unique.index.json")
    of_data = ("--dataset", str(ratings))
    assert harness("codes", "reassign", str(codes), "--out", str(unique), *of_data).code == 0
    tiny = [f"tiger.training.{field}=1" for field in ("epochs", "evaluate_every")]
    settings = [word for field in tiny for word in ("--set", field)]
    ended = harness("codes", "evaluate", str(codes), str(unique), *of_data, *settings, "--json")
    table = json.loads(ended.out)
    assert [row["label"] for row in table["rows"]] == ["own.index.json", "unique.index.json"]
    assert [column["group"] for column in table["columns"]] == ["Codes", *["By item"] * 4, *["By tuple"] * 4]
    values = [[cell["value"] for cell in row["cells"]] for row in table["rows"]]
    count = len(json.loads(codes.read_text()))
    assert values[0][0] == pytest.approx(100 * (count - count % 2) / count)  # neighbours share a tuple
    assert values[1][0] == 0
    assert values[1][1:5] == values[1][5:]  # where no item shares its tuple, both are one
    assert values[0][6] > values[0][2]
    audited = json.loads(harness("audit", "tiger", "--configs", "all", "--json").out)
    assert [row["label"] for row in audited["rows"][:2]] == [
        f"TIGER, codes={name}.index.json" for name in ("own", "unique")
    ]
    by_label = {row["label"]: row["cells"] for row in audited["rows"][:2]}
    assert by_label["TIGER, codes=own.index.json"][2]["value"] == pytest.approx(values[0][8])  # NDCG@10, codes
    again = harness("codes", "evaluate", str(codes), *of_data, *settings)
    assert "own.index.json" in again.out
    assert "done in" not in again.err  # nothing is computed a second time
    assert "--out must end as its format does" in harness("codes", "evaluate", str(codes), *of_data, "--out", "x").error
    missing = harness("codes", "evaluate", "none.json", *of_data)
    assert (missing.code, "no such file" in missing.err) == (2, True)
    assert (
        "unknown field 'markov.codes'" in harness("codes", "evaluate", str(codes), *of_data, "--method", "markov").err
    )
