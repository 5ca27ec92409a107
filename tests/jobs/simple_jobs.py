"""Jobs that succeed, fail, crash, die or stay silent; importable by name in the processes that run them."""

import os
import sys
import time
from functools import partial
from pathlib import Path

from harness.errors import StageError
from harness.jobs.graph import Job, Observer, Send
from harness.jobs.local import run_jobs


def succeed(send: Send) -> int:
    send("working")
    return os.getpid()


def loaded(send: Send) -> set[str]:
    return set(sys.modules)


def stamp(path: Path, send: Send) -> None:
    path.write_text(str(time.monotonic()))


def fail(send: Send) -> None:
    raise StageError("a rule must hold, but it does not; mend it")


def crash(send: Send) -> None:
    raise KeyError("a bug")


def die(send: Send) -> None:
    os._exit(7)


def see(folder: Path, name: str, send: Send) -> str | None:
    """What CUDA would see, told while another job runs."""
    (folder / name).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def compute_in_silence(pid_file: Path, send: Send) -> None:
    """A job that sends nothing for a minute, so that no broken pipe could end it."""
    pid_file.with_suffix(".tmp").write_text(str(os.getpid()))
    pid_file.with_suffix(".tmp").rename(pid_file)
    time.sleep(60)


def run_in_silence(folder: Path) -> None:
    """What the process does that is to be killed."""
    job = Job("silent", partial(compute_in_silence, folder / "pid"))
    observer = Observer(started=lambda key: None, message=lambda key, content: None, ended=lambda key, outcome: None)
    run_jobs({job.key: job}, processes=2, threads=1, logs=folder / "logs", observer=observer)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
