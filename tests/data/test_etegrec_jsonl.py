"""The authors' triple. Oracle: sequences that a slow writer cuts into the authors' lines, and counts by hand."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.filters import PrepareConfig
from harness.data.formats.read import read_interactions
from harness.data.prepare import describe, load_test, prepare
from harness.data.samples import PrefixSamples
from harness.errors import DataError

Sequences = dict[str, list[str]]
SIXTY: Sequences = {"long": [f"i{place}" for place in range(1, 61)], "short": ["i3", "i9", "i2", "i7"]}


def lines_of(sequences: Sequences, split: str, cut: int = 50, named: bool = True) -> list[str]:
    """METHODS A.5 word by word: one line per target, its history the last `cut` items before it."""
    lines = []
    for user, items in sequences.items():
        last = len(items) - 1
        places = {"train": range(1, last - 1), "valid": [last - 1], "test": [last]}[split]
        for place in places:
            sample = {"inter_history": items[max(0, place - cut) : place], "target_id": items[place]}
            lines.append(json.dumps({"user_id": user, **sample} if named else sample))
    return lines


def write(folder: Path, sequences: Sequences, *, cut: int = 50, named: bool = True, shuffled: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        lines = lines_of(sequences, split, cut, named)
        if shuffled and split == "train":
            random.Random(0).shuffle(lines)
        (folder / f"toy.{split}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def read_back(folder: Path) -> tuple[list[list[str]], tuple[str, ...]]:
    raw = read_interactions(folder)
    frame = raw.frame.with_columns(pl.col("user", "item").cast(pl.String))
    return frame.group_by("user", maintain_order=True).agg("item")["item"].to_list(), raw.notes


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_a_user_of_sixty_items_keeps_all_training_samples_and_full_histories(
    tmp_path: Path, named: bool, shuffled: bool
) -> None:
    raw = read_interactions(write(tmp_path / "toy", SIXTY, named=named, shuffled=shuffled))
    assert raw.notes == ()
    data = prepare(raw, PrepareConfig(), tmp_path / "made", "toy")
    found = describe(tmp_path / "made")
    # 60 items make 57 training samples, 4 items make 1. Items: i1 to i60, which hold those of the short user.
    assert (found["train_samples"], found["items"], found["interactions"]) == (58, 60, 64)
    samples = PrefixSamples.of(data)
    assert samples.lengths.tolist() == [*range(1, 51), *[50] * 7, 1]
    test = load_test(tmp_path / "made", data)
    key = data.catalog.keys.__getitem__
    for cases, first, target in ((data.validation, 9, 59), (test, 10, 60)):  # the last 50 items before the target
        assert [key(item - 1) for item in cases.histories.row(0)] == [f"i{n}" for n in range(first, first + 50)]
        assert key(cases.targets[0] - 1) == f"i{target}"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sequences=st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=14), min_size=1, max_size=4),
    cut=st.integers(1, 6),
    named=st.booleans(),
)
def test_sequences_with_many_repeats_come_back_whole(
    tmp_path: Path, sequences: list[list[str]], cut: int, named: bool
) -> None:
    # Where users are not named they must differ in what they do: here each has items of their own.
    by_user = {
        str(user): items if named else [f"{item}{user}" for item in items] for user, items in enumerate(sequences)
    }
    sequences = list(by_user.values())
    assert read_back(write(tmp_path / "toy", by_user, cut=cut, named=named)) == (sequences, ())


def test_what_cannot_be_put_together_is_told_with_counts_and_an_example(tmp_path: Path) -> None:
    write(tmp_path, SIXTY)
    path = tmp_path / "toy.train.jsonl"
    lines = path.read_text().splitlines()
    # The validation line tells i9 to i59. The item before i9 stood in the sample of i58 alone, which is taken away:
    # the 49 samples that i9 to i58 make are not the 56 that are left.
    foreign = json.dumps({"user_id": "nobody", "inter_history": ["i1"], "target_id": "i2"})
    path.write_text("".join(line + "\n" for line in [*lines[:56], *lines[57:], foreign]))
    rows, (note,) = read_back(tmp_path)
    assert rows == [SIXTY["long"][8:], SIXTY["short"]]
    assert note == (
        f"{path}: 49 of 50 training samples that the sequences make are no line of the file, so the first "
        "items of 1 of 2 users may be missing (user 'long', target 'i10'); "
        "57 lines belong to no user's sequence (line 1)"
    )


def test_items_of_the_map_keep_their_numbers_though_nobody_has_them_or_a_filter_takes_them(tmp_path: Path) -> None:
    write(tmp_path / "toy", {"p": list("abcd"), "q": list("abce"), "r": list("abcf")})
    places = {"[PAD]": 0, "f": 1, "never": 2, "c": 3, "b": 4, "a": 5, "e": 6, "d": 7}
    (tmp_path / "toy" / "toy.emb_map.json").write_text(json.dumps(places))
    raw = read_interactions(tmp_path / "toy")
    for core in (0, 3):  # d, e and f have one interaction each
        data = prepare(raw, PrepareConfig(core=core), tmp_path / "made", "toy")
        assert data.catalog.keys == ("f", "never", "c", "b", "a", "e", "d")
        assert data.train.items.tolist() == ([5, 4] if core == 0 else [5]) * 3
    assert describe(tmp_path / "made")["items"] == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"[PAD]": 0, "a": 1, "b": 3}, r"count from 1 to 2, each once, but 'b' has 3 where 2 is next"),
        ({"a": 0, "b": 1}, r"count from 1 to 2, each once, but 'a' has 0 where 1 is next"),
        ({"[PAD]": 0, "a": 1, "b": 1}, r"but 'b' has 1 where 2 is next"),
        (["a"], r"must be one JSON object of item: integer"),
    ],
)
def test_a_map_whose_numbers_are_no_rows_of_vectors_is_refused(tmp_path: Path, content: object, message: str) -> None:
    write(tmp_path, {"p": list("abab")})
    (tmp_path / "toy.emb_map.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"toy\.emb_map\.json: .*{message}"):
        read_interactions(tmp_path)


def test_a_user_with_two_test_lines_is_refused(tmp_path: Path) -> None:
    write(tmp_path, SIXTY)
    path = tmp_path / "toy.test.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"toy\.test\.jsonl:3: each user must have one line, but 'long' has an earlier"):
        read_interactions(tmp_path)
