"""Written and read back. Oracle: the fingerprint, which hashes sequences, keys, texts and parts; and lines by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from harness.data.dataset import Dataset
from harness.data.export import export, writable
from harness.data.formats.format import Columns
from harness.data.open import Source, open_dataset
from harness.data.prepare import describe, load_dataset
from harness.errors import DataError, UsageError

COLUMNS = Columns("user", "item", "time")
IMPLIED = ("etegrec-jsonl", "letter", "recbole")  # forms of whole sequences: their split is leave-one-out


@pytest.fixture
def log(tmp_path: Path) -> Source:
    """Forty users, one of them of 60 items; repeats, users who take turns in time, and one who comes last by name."""
    rows = [
        (f"user {u:02}", f"i{(u * 7 + t * t) % 23}", 1_500_000_000_000 + 997 * u + 60_000 * t)
        for u in range(40)
        for t in range(4 + u % 5)
    ]
    rows += [("a long one", f"i{t % 31}" if t < 59 else "late", 1_500_000_100_000 + 30_000 * t) for t in range(60)]
    frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").sort("time", maintain_order=True)
    frame.write_csv(tmp_path / "log.csv")
    return Source(str(tmp_path / "log.csv"), columns=COLUMNS)


def with_texts(log: Source, folder: Path) -> Source:
    """The same as a data set whose texts hold what cleaning would change, and some items no text."""
    export(log, folder / "cache", "amazon2023", folder / "texts")
    texts = {"i1": "Pot &amp;amp; <b>lid</b>", "i2": "2 &amp;lt; 3", "i3": "“Tasse” ..", "i4": ".", "late": "Nobody's"}
    lines = (json.dumps({"parent_asin": key, "title": text}) + "\n" for key, text in texts.items())
    (folder / "texts" / "meta_log.jsonl").write_text("".join(lines))
    return Source(str(folder / "texts"))


def opened(source: Source, tmp_path: Path) -> Dataset:
    return load_dataset(open_dataset(source, tmp_path / "cache"))


def round_trip(source: Source, name: str, tmp_path: Path) -> tuple[Dataset, Dataset]:
    export(source, tmp_path / "cache", name, tmp_path / name)
    back = Source(str(tmp_path / name), split="leave-one-out" if name == "recbole" else "given")
    found = opened(back, tmp_path)
    assert describe(open_dataset(back, tmp_path / "cache"))["notes"] == []
    return opened(source, tmp_path), found


@pytest.mark.parametrize("name", writable())
@pytest.mark.parametrize("texts", [True, False])
def test_each_form_reads_back_as_the_same_data_and_split(log: Source, tmp_path: Path, name: str, texts: bool) -> None:
    source = with_texts(log, tmp_path) if texts else log
    before, after = round_trip(source, name, tmp_path)
    assert after.fingerprint == before.fingerprint
    assert after.catalog == before.catalog
    assert (before.catalog.texts is not None) is texts
    if before.catalog.texts:
        assert {"Pot &amp; lid", "2 &lt; 3"} <= {text for text in before.catalog.texts if text}


@pytest.mark.parametrize("name", ["amazon2023", "minionerec"])
@pytest.mark.parametrize("split", ["temporal:0.55,0.8", "temporal:0.55,0.8,every", "unseen-users"])
def test_other_splits_read_back_from_files_of_rows(log: Source, tmp_path: Path, name: str, split: str) -> None:
    whole = with_texts(log, tmp_path)
    before, after = round_trip(Source(whole.name, split=split), name, tmp_path)
    assert after.catalog == before.catalog  # with the item that stands in no file, since it is no target
    assert after.fingerprint == before.fingerprint != opened(whole, tmp_path).fingerprint


def test_a_lone_training_item_that_no_row_tells_is_told(tmp_path: Path) -> None:
    (tmp_path / "toy.csv").write_text(
        "user,item,time\n" + "".join(f"u,{i},{i}\nv,{i},{i}\n" for i in range(3)) + "v,3,3\n"
    )
    source = Source(str(tmp_path / "toy.csv"), columns=COLUMNS)
    notes = {name: export(source, tmp_path / "cache", name, tmp_path / name)[1] for name in writable()}
    assert (notes.pop("minionerec") or "").startswith("1 users (user 'u') have one training item, which is no sample")
    assert set(notes.values()) == {None}


@pytest.mark.parametrize("name", IMPLIED)
def test_other_splits_are_refused_by_forms_of_whole_sequences(log: Source, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name} holds whole sequences, whose split is leave-one-out"):
        export(Source(log.name, columns=COLUMNS, split="temporal:0.6"), tmp_path / "cache", name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_times_survive_so_that_the_copy_can_be_split_by_them(log: Source, tmp_path: Path) -> None:
    for name in ("amazon2023", "recbole"):
        export(log, tmp_path / "cache", name, tmp_path / name)
        copy = opened(Source(str(tmp_path / name), split="temporal:0.6"), tmp_path)
        assert copy.fingerprint == opened(Source(log.name, columns=COLUMNS, split="temporal:0.6"), tmp_path).fingerprint


def test_the_lines_are_those_that_the_other_code_reads(tmp_path: Path) -> None:
    (tmp_path / "toy.csv").write_text("user,item,time\n" + "".join(f"u,{item},{t}\n" for t, item in enumerate("abcda")))
    source = Source(str(tmp_path / "toy.csv"), columns=COLUMNS)
    for name in writable():
        export(source, tmp_path / "cache", name, tmp_path / name)

    def lines(name: str) -> list[str]:
        return (tmp_path / name).read_text().splitlines()

    assert lines("amazon2023/toy.train.csv") == [
        "user_id,parent_asin,rating,timestamp,history",
        "u,a,1.0,0,",
        "u,b,1.0,1,a",
        "u,c,1.0,2,a b",
    ]
    assert lines("amazon2023/toy.test.csv")[1:] == ["u,a,1.0,4,a b c d"]
    assert lines("minionerec/toy.train.csv") == ["user_id,history_item_id,item_id", "u,[0],1", 'u,"[0, 1]",2']
    assert lines("minionerec/toy.valid.csv")[1:] == ['u,"[0, 1, 2]",3']
    assert json.loads(lines("letter/toy.inter.json")[0]) == {"0": [0, 1, 2, 3, 0]}
    assert lines("letter/toy.item2id") == ["a\t0", "b\t1", "c\t2", "d\t3"]
    assert [json.loads(line) for line in lines("etegrec-jsonl/toy.train.jsonl")] == [
        {"user_id": "u", "inter_history": ["a"], "target_id": "b"},
        {"user_id": "u", "inter_history": ["a", "b"], "target_id": "c"},
    ]
    assert json.loads(lines("etegrec-jsonl/toy.emb_map.json")[0]) == {"[PAD]": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    assert lines("recbole/toy.inter")[:2] == ["user_id:token\titem_id:token\ttimestamp:float", "u\ta\t0.0"]


def test_what_a_form_cannot_hold_is_one_line(log: Source, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--to must be a format that can be written; did you mean 'letter'"):
        export(log, tmp_path / "cache", "leter", tmp_path / "out")
    export(log, tmp_path / "cache", "letter", tmp_path / "out")
    with pytest.raises(DataError, match="out: is there already, and is not overwritten; name a new folder"):
        export(log, tmp_path / "cache", "letter", tmp_path / "out")
    (tmp_path / "blank.csv").write_text("user,item,time\nu,a b,1\nu,c,2\nu,d,3\n")
    blank = Source(str(tmp_path / "blank.csv"), columns=COLUMNS)
    with pytest.raises(DataError, match="amazon2023 cannot hold the key 'a b', as one of 1"):
        export(blank, tmp_path / "cache", "amazon2023", tmp_path / "blank")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all forms, so that the published set is prepared once."""
    return tmp_path_factory.mktemp("published")


@pytest.mark.parametrize("name", writable())
def test_a_published_set_reads_back_as_the_same(real_data: Callable[[str], Path], published: Path, name: str) -> None:
    before, after = round_trip(Source(str(real_data("scientific5core"))), name, published)
    assert after.fingerprint == before.fingerprint
