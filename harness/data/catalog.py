"""The named data sets: the embedded demo, and the paper's three, which are downloaded once and checked.

The paper's sets are the ready-made 5-core, de-duplicated rating files of Amazon Reviews 2023 with the categories'
metadata (METHODS A.2). They come from the Hugging Face Hub: a cut download goes on where it stopped, its size
and checksum must be the hub's, and after preparation the counts must be those of the paper's Table 2.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from harness.data.demo import DEMO_CONFIG, demo
from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.formats.read import SourceFiles, read_files
from harness.data.statistics import Counts
from harness.errors import DataError, StageError

REPOSITORY = "McAuley-Lab/Amazon-Reviews-2023"
# The commit that public projects cite for this repository. It was written down from such citations without access
# to the hub, so that these files exist under it is an assumption; the counts of Table 2 are what proves the content.
REVISION = "2b6d039ed471f2ba5fd2acb718bf33b0a7e5598e"

TRIES = 5  # in a row that brought not one byte
PAUSE_S = 2.0  # between two tries
TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class NamedDataset:
    """A data set of the harness's own: where it comes from and how it is prepared."""

    name: str
    config: PrepareConfig
    category: str | None = None  # of Amazon Reviews 2023; None: the demo
    expected: Counts | None = None  # after preparation
    version: int = 1  # raised when what `read` gives changes

    @property
    def folder_name(self) -> str:
        """Of the prepared data set; another version lies beside the older one."""
        return self.name if self.version == 1 else f"{self.name}-{self.version}"

    def read(self, cache: Path) -> RawInteractions:
        """The raw interactions and texts; downloads what `cache` does not hold yet."""
        if self.category is None:
            return demo()
        ratings = fetch(f"benchmark/5core/rating_only/{self.category}.csv", cache)
        metadata = fetch(f"raw/meta_categories/meta_{self.category}.jsonl", cache)
        return read_files(SourceFiles("amazon2023", (ratings,), metadata))


_FIVE_CORE = PrepareConfig(core=5, repeats="drop")  # no-ops on these files, as the counts prove (METHODS A.3)

NAMED: Mapping[str, NamedDataset] = {
    dataset.name: dataset
    for dataset in (
        NamedDataset("demo", DEMO_CONFIG, version=2),
        NamedDataset("instrument", _FIVE_CORE, "Musical_Instruments", Counts(57_439, 24_587, 511_836)),
        NamedDataset("scientific", _FIVE_CORE, "Industrial_and_Scientific", Counts(50_985, 25_848, 412_947)),
        NamedDataset("game", _FIVE_CORE, "Video_Games", Counts(94_762, 25_612, 814_586)),
    )
}


def fetch(file: str, cache: Path, *, revision: str = REVISION, pause_s: float = PAUSE_S) -> Path:
    """The local path of a file of the hub's repository; what is complete in `cache` is not downloaded again.

    The hub's address is HF_ENDPOINT, where set. `StageError` when the hub cannot be reached or keeps cutting the
    connection (what has arrived stays, and the next call goes on from there); `DataError` when the content is not
    what the hub says it is.
    """
    target = cache / "downloads" / revision / file
    if target.exists():
        return target
    from huggingface_hub import hf_hub_url  # here, since most commands that know the names download nothing

    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(REPOSITORY, file, repo_type="dataset", revision=revision, endpoint=endpoint)
    size, checksum = _promised(url)
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    _download(url, unfinished, size, pause_s)
    _verify(url, unfinished, size, checksum)
    os.replace(unfinished, target)
    return target


def _promised(url: str) -> tuple[int, str]:
    """Size in bytes and checksum of a file, as the hub states them."""
    from huggingface_hub import get_hf_file_metadata

    try:
        metadata = get_hf_file_metadata(url, token=False, timeout=TIMEOUT_S)
    except Exception as error:  # the client's transport, and so its error types, change with its version
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"{url}: the hub could not be asked ({reason}); check the network, or HF_ENDPOINT, or download the file "
            f"by hand and name its path"
        ) from None
    if metadata.size is None or not re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", metadata.etag or ""):
        raise StageError(f"{url}: the hub states no size or no checksum (etag {metadata.etag}); check HF_ENDPOINT")
    return metadata.size, str(metadata.etag)


def _download(url: str, unfinished: Path, size: int, pause_s: float) -> None:
    """Append to the file until it has the stated size, whatever number of connections that takes."""
    failures = 0
    while (have := unfinished.stat().st_size if unfinished.exists() else 0) < size:
        reason = "the connection was cut"
        try:
            _append(url, unfinished, have)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
        now = unfinished.stat().st_size if unfinished.exists() else 0
        failures = 0 if now > have else failures + 1
        if failures == TRIES:
            raise StageError(
                f"{url}: the download stopped at {now:,} of {size:,} bytes ({reason}); run again to go on from there"
            )
        if now < size:
            time.sleep(pause_s)


def _append(url: str, unfinished: Path, have: int) -> None:
    """Stream what is missing to the end of the file; from its start where the server does not serve ranges."""
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=TIMEOUT_S) as response:
        goes_on = have > 0 and response.status == 206
        with unfinished.open("ab" if goes_on else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)


def _verify(url: str, unfinished: Path, size: int, checksum: str) -> None:
    """Remove the file and raise `DataError` if its content is not the promised one."""
    actual = _checksum(unfinished, git=len(checksum) == 40)
    if unfinished.stat().st_size != size or actual != checksum:
        found = f"{unfinished.stat().st_size:,} bytes with checksum {actual}"
        unfinished.unlink()
        raise DataError(
            f"{url}: the download must have {size:,} bytes with checksum {checksum}, but has {found}; "
            f"it was removed, fetch it again"
        )


def _checksum(path: Path, *, git: bool) -> str:
    """SHA-256 (the hub's etag of a large file), or the SHA-1 of a git blob (its etag of a small one)."""
    state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode()) if git else hashlib.sha256()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: state).hexdigest()
