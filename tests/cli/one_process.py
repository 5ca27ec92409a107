"""Commands in one process, which has packages installed that the tests' own has not."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ended import Ended

MARK = "\x1e"
TESTS = Path(__file__).resolve().parents[1]
JOBS_HERE = """
from jobs_here import JobsHere
from harness.jobs import local
local.ProcessPool, local.start_server = JobsHere, lambda: None
"""
SCRIPT = f"""
import json, sys
from harness.cli import main
for command in json.loads(sys.argv[1]):
    code = 0
    try:
        main(command)
    except SystemExit as ended:
        code = ended.code or 0
    for stream in (sys.stdout, sys.stderr):
        print({MARK!r}, code, file=stream, flush=True)
"""


def called(site: Path, *commands: list[str], jobs_here: bool = True) -> list[Ended]:
    """How each of the commands ends where the packages in the folder `site` are installed, one after the other.

    Their jobs are done in the commands' process too, or in processes of their own.
    """
    # The packages before the tests, whose folders of the same names would be taken for them.
    path = os.pathsep.join([str(site), str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", JOBS_HERE * jobs_here + SCRIPT, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, cwd=site.parent, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    outs, errs = (text.split(MARK) for text in (ended.stdout, ended.stderr))
    found = []
    for place in range(len(commands)):
        code = int(outs[place + 1].split("\n")[0])
        out, err = (texts[place].partition("\n")[2] if place else texts[place] for texts in (outs, errs))
        found.append(Ended(code, out, err))
    return found


def printed(site: Path, *commands: list[str], jobs_here: bool = True) -> list[str]:
    """What each of the commands prints; all of them succeed."""
    found = called(site, *commands, jobs_here=jobs_here)
    assert [ended.code for ended in found] == [0] * len(commands), found
    return [ended.out for ended in found]
