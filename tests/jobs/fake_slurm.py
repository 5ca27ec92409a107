"""A Slurm of one machine, for tests: sbatch, srun, sacct, scancel and scontrol as far as submitit uses them.

State lies in the folder FAKE_SLURM: `<id>.state`, `<id>.pid` (the process group of the job), `<id>.sh`, `<id>.requeue`.
A job is started at once; `srun` runs its command with its output in the named files.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
VALUED = ("--output", "--error", "--cpus-per-task")  # options of srun that a value follows


def install(folder: Path) -> None:
    """Writes the commands into `folder`, to be put on the PATH."""
    folder.mkdir(parents=True)
    for command in COMMANDS:
        path = folder / command
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" {command} "$@"\n')
        path.chmod(0o755)


def sbatch(script: str) -> None:
    home = Path(os.environ["FAKE_SLURM"])
    if "partition=none" in Path(script).read_text():
        sys.exit("sbatch: error: invalid partition specified: none")
    number = str(time.time_ns())  # submitit remembers the state of each number for as long as its process lives
    (home / f"{number}.sh").write_text(Path(script).read_text())
    (home / f"{number}.state").write_text("PENDING")
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    subprocess.Popen(
        [sys.executable, "-S", __file__, "run", number],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"Submitted batch job {number}")


def run(number: str) -> None:
    home = Path(os.environ["FAKE_SLURM"])
    state, requeue = home / f"{number}.state", home / f"{number}.requeue"
    while True:
        job = subprocess.Popen(["bash", str(home / f"{number}.sh")], start_new_session=True)
        (home / f"{number}.pid").write_text(str(job.pid))
        state.write_text("RUNNING")
        code = job.wait()
        if not requeue.exists():
            break
        requeue.unlink()
        state.write_text("PENDING")
    if state.read_text() == "RUNNING":
        state.write_text("FAILED" if code else "COMPLETED")


def srun(*arguments: str) -> None:
    files: dict[str, str] = {}
    command = list(arguments)
    while command[0].startswith("--"):
        name = command.pop(0)
        if name in VALUED:
            files[name] = command.pop(0)
    number = os.environ["SLURM_JOB_ID"]
    paths = [files[name].replace("%j", number).replace("%t", "0") for name in ("--output", "--error")]
    for stream, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream)
    os.execvp(command[0], command)


def sacct(*arguments: str) -> None:
    home = Path(os.environ["FAKE_SLURM"])
    print("JobID|State|NodeList")
    for number in [value for name, value in itertools.pairwise(arguments) if name == "-j"]:
        if (home / f"{number}.state").exists():
            print(f"{number}|{(home / f'{number}.state').read_text()}|here")


def scancel(number: str, *_: str) -> None:
    home = Path(os.environ["FAKE_SLURM"])
    (home / f"{number}.state").write_text("CANCELLED by 0")
    os.killpg(int((home / f"{number}.pid").read_text()), signal.SIGKILL)


def scontrol(_: str, number: str) -> None:
    (Path(os.environ["FAKE_SLURM"]) / f"{number}.requeue").touch()


if __name__ == "__main__":
    _, chosen, *rest = sys.argv
    {"sbatch": sbatch, "run": run, "srun": srun, "sacct": sacct, "scancel": scancel, "scontrol": scontrol}[chosen](
        *rest
    )
