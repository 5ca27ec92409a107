"""Oracles: a slow loop with a dictionary, counting by hand, and properties (unique tuples, a round trip)."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from harness.errors import DataError, StageError
from harness.generative.tokenizer.codes import CodeTable, code_health, deduplicate, flat_health, tuple_keys

tuples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=60)


@given(tuples)
def test_deduplication_equals_a_loop_in_id_order(rows: list[tuple[int, int]]) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    expected = []
    for row in rows:
        expected.append([*row, seen[row]])
        seen[row] += 1
    assert deduplicate(torch.tensor(rows), 64).tolist() == expected


@given(tuples)
def test_deduplicated_tuples_are_unique(rows: list[tuple[int, int]]) -> None:
    codes = deduplicate(torch.tensor(rows), 64)
    assert len({tuple(row) for row in codes.tolist()}) == len(rows)
    assert CodeTable.of(codes, (4, 3, 64)).unique


@given(tuples)
def test_tuple_keys_are_equal_exactly_where_tuples_are(rows: list[tuple[int, int]]) -> None:
    keys = tuple_keys(torch.tensor(rows)).tolist()
    assert len(set(keys)) == len(set(rows)) == len(set(zip(keys, rows, strict=True)))


def test_a_group_as_large_as_the_table_passes_and_a_larger_one_is_refused() -> None:
    codes = torch.zeros(5, 3, dtype=torch.int64)
    assert deduplicate(codes, 5)[:, 3].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(StageError, match=r"at most 4 items may share one code tuple, but 5 do; .*") as error:
        deduplicate(codes, 4)
    assert "\n" not in str(error.value)


def test_health_counts_by_hand() -> None:
    # Level 1: codes 0, 0, 0, 1; level 2: 2, 2, 3, 3. Tuples (0,2) twice, (0,3), (1,3): 3 distinct of 4.
    health = code_health(torch.tensor([[0, 2], [0, 2], [0, 3], [1, 3]]), 8)
    assert health["used_codes"] == [2, 2]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert health["perplexity"] == pytest.approx([math.exp(entropy), 2.0])
    assert health["collision_rate"] == 0.25
    assert health["colliding_items"] == 0.5
    assert health["largest_group"] == 2


def test_flat_health_numbers_the_levels_from_one() -> None:
    codes = torch.tensor([[0, 2], [0, 2], [0, 3], [0, 3]])
    assert flat_health(codes, 8) == {
        "used_codes_1": 1.0,
        "used_codes_2": 2.0,
        "perplexity_1": pytest.approx(1.0),
        "perplexity_2": pytest.approx(2.0),
        "collision_rate": 0.5,
        "colliding_items": 1.0,
        "largest_group": 2.0,
    }


def test_the_table_has_a_padding_row_and_survives_a_round_trip(tmp_path: Path) -> None:
    table = CodeTable.of(torch.tensor([[1, 0], [2, 3]]), (3, 4))
    assert table.codes.tolist() == [[0, 0], [1, 0], [2, 3]]
    assert (table.num_items, table.num_levels, table.unique) == (2, 2, True)
    path = tmp_path / "codes.safetensors"
    table.save(path, ["a", "ü"])
    loaded = CodeTable.load(path, ["a", "ü"])
    assert torch.equal(loaded.codes, table.codes)
    assert loaded.sizes == table.sizes
    assert [file.name for file in tmp_path.iterdir()] == ["codes.safetensors"]


def test_an_older_table_with_an_entry_for_each_part_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    table = CodeTable.of(torch.tensor([[1, 0], [2, 3]]), (3, 4))
    save_file({"codes": table.codes}, path, {"sizes": "[3, 4]", "item_keys": '["a", "b"]'})
    loaded = CodeTable.load(path, ["a", "b"])
    assert torch.equal(loaded.codes, table.codes)
    assert loaded.sizes == (3, 4)
    with pytest.raises(DataError, match="2 other items"):
        CodeTable.load(path, ["b", "a"])


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"sizes": "[3]", "format": "1"}])
def test_tensors_that_are_no_code_table_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "codes.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata)
    with pytest.raises(DataError, match="must hold a code table"):
        CodeTable.load(path)


def test_codes_of_other_items_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    CodeTable.of(torch.tensor([[1, 0], [2, 3]]), (3, 4)).save(path, ["a", "b"])
    with pytest.raises(DataError, match="this data set's items in their order"):
        CodeTable.load(path, ["b", "a"])


def test_a_table_that_is_missing_or_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    with pytest.raises(DataError, match="must hold a code table"):
        CodeTable.load(path)
    CodeTable.of(torch.tensor([[1, 0], [2, 3]]), (3, 4)).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="must hold a code table") as error:
        CodeTable.load(path)
    assert "\n" not in str(error.value)


def test_a_code_outside_its_level_is_refused() -> None:
    with pytest.raises(DataError, match=r"codes of level 2 must lie in 0\.\.3, but they span 0\.\.4"):
        CodeTable.of(torch.tensor([[1, 0], [2, 4]]), (3, 4))


def test_shared_tuples_are_noticed() -> None:
    assert not CodeTable.of(torch.tensor([[1, 0], [1, 0]]), (2, 1)).unique


def test_sharers_are_the_items_with_the_same_first_codes_itself_included() -> None:
    codes = CodeTable.of(torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]]), (2, 2, 2))
    assert codes.sharers(2).tolist() == [2, 1, 2, 1]
    assert codes.sharers(3).tolist() == [1, 1, 1, 1]
