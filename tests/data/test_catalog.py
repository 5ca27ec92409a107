"""Named sets and their download. Oracle: a server on loopback that speaks the hub's protocol and can misbehave."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from loopback_hub import Hub, serving

from harness.data import catalog
from harness.data.catalog import NAMED, REVISION
from harness.data.filters import PrepareConfig
from harness.data.prepare import prepare
from harness.data.statistics import Counts
from harness.errors import DataError, StageError

fetch = partial(catalog.fetch, pause_s=0.0)
FILE = "benchmark/5core/rating_only/Musical_Instruments.csv"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(f"/datasets/{catalog.REPOSITORY}/resolve/{REVISION}/")
    with serving(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub


CONTENT = b"user_id,parent_asin,rating,timestamp\n" + b"u,i,5.0,1600000000000\n" * 400


def test_a_file_is_downloaded_once_and_then_found_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.files[FILE] = CONTENT
    path = fetch(FILE, tmp_path)
    assert path.read_bytes() == CONTENT
    hub.files.clear()
    assert fetch(FILE, tmp_path) == path
    assert hub.ranges == [None]


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.files[FILE] = CONTENT
    hub.cuts[:] = [1_000, 500]
    assert fetch(FILE, tmp_path).read_bytes() == CONTENT
    assert hub.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_what_an_earlier_run_has_brought_is_kept_when_the_hub_keeps_cutting(hub: Hub, tmp_path: Path) -> None:
    hub.files[FILE] = CONTENT
    hub.cuts[:] = [1_000] + [0] * catalog.TRIES
    with pytest.raises(StageError, match=r"stopped at 1,000 of 8,837 bytes .*run again to go on"):
        fetch(FILE, tmp_path)
    assert fetch(FILE, tmp_path).read_bytes() == CONTENT
    assert hub.ranges[-1] == "bytes=1000-"


def test_a_server_without_ranges_makes_the_download_start_again(hub: Hub, tmp_path: Path) -> None:
    hub.files[FILE], hub.serves_ranges = CONTENT, False
    hub.cuts[:] = [1_000]
    assert fetch(FILE, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("digits", [64, 40])
def test_a_wrong_checksum_is_one_line_and_the_file_is_removed(hub: Hub, tmp_path: Path, digits: int) -> None:
    hub.files[FILE], hub.etags[FILE] = CONTENT, "0" * digits
    with pytest.raises(DataError, match=rf"must have 8,837 bytes with checksum {'0' * digits}, but has") as error:
        fetch(FILE, tmp_path)
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_small_file_is_checked_by_its_git_blob_hash(hub: Hub, tmp_path: Path) -> None:
    # `printf 'hello\n' | git hash-object --stdin` prints this.
    hub.files["a.txt"], hub.etags["a.txt"] = b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"
    assert fetch("a.txt", tmp_path).read_bytes() == b"hello\n"


def test_an_unknown_file_and_an_unreachable_hub_are_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageError, match="the hub could not be asked") as error:
        fetch("nothing.csv", tmp_path)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StageError, match=r"the hub could not be asked .*by hand"):
        fetch(FILE, tmp_path)


def test_a_named_set_is_read_with_its_texts_and_must_have_the_published_counts(hub: Hub, tmp_path: Path) -> None:
    users, items = [f"u{number}" for number in range(5)], [f"i{number}" for number in range(5)]
    lines = [f"{user},{item},5.0,{1_600_000_000_000 + n}" for user in users for n, item in enumerate(items)]
    hub.files[FILE] = "\n".join(["user_id,parent_asin,rating,timestamp", *lines, ""]).encode()
    meta = '{"parent_asin": "i0", "title": "Ukulele"}\n'
    hub.files["raw/meta_categories/meta_Musical_Instruments.jsonl"] = meta.encode()
    named = NAMED["instrument"]
    raw = named.read(tmp_path / "cache")
    assert raw.texts == {"i0": "Ukulele"}
    with pytest.raises(DataError, match=r"must have 57,439 users, 24,587 items, 511,836 .* 5 users, 5 items, 25"):
        prepare(raw, named.config, tmp_path / "instrument", named.name, expected=named.expected)


def test_the_expected_counts_are_the_papers_table_2() -> None:
    """METHODS A.6, written out again."""
    assert {name: named.expected for name, named in NAMED.items()} == {
        "demo": None,
        "instrument": Counts(57_439, 24_587, 511_836),
        "scientific": Counts(50_985, 25_848, 412_947),
        "game": Counts(94_762, 25_612, 814_586),
    }
    assert all(named.config == PrepareConfig(core=5, repeats="drop") for named in NAMED.values())
