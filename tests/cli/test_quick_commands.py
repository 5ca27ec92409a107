"""What keeps small commands quick, and interrupts short. Oracles: the interpreter's own modules, files on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_runs import write_report_runs

from harness.cli.remembered import remembered

HEAVY = {"torch", "polars", "numpy", "scipy", "scipy.stats", "scipy.special", "sklearn", "optuna", "matplotlib"}
WATCHED = f"""
import sys
from harness.cli import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as ended:
        if ended.code:
            raise
    print("@", *sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""


def test_small_commands_import_what_they_need_and_no_more(harness):
    write_report_runs(Path("runs"), "demo")
    assert harness("methods").code == 0  # from now on remembered
    commands = ["--help", "run --help", "methods", "doctor", "--version", "ls", "table overall"]
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, *commands], capture_output=True, text=True, check=False, env=os.environ
    )
    assert ended.returncode == 0, ended.stderr
    imported = [set(line.split()[1:]) for line in ended.stderr.splitlines() if line.startswith("@")]
    assert imported[:5] == [set()] * 5
    assert imported[5] == {"polars"}
    assert imported[6] == {"polars", "numpy", "scipy", "scipy.special"}


def test_what_is_remembered_is_made_anew_when_code_changes(tmp_path, monkeypatch):
    made = []

    def make() -> list[int]:
        made.append(len(made))
        return made[:]

    own = tmp_path / "own_package"
    own.mkdir()
    (own / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("harness.cli.remembered.OWN", ("own_package",))
    assert [remembered("numbers", make, "no.group", tmp_path) for _ in range(2)] == [[0], [0]]
    (own / "new.py").write_text("")
    assert [remembered("numbers", make, "no.group", tmp_path) for _ in range(2)] == [[0, 1], [0, 1]]
    (kept,) = tmp_path.glob("numbers-*.json")
    kept.write_text(json.dumps("damaged"))
    assert remembered("numbers", make, "no.group", tmp_path) == [0, 1, 2]
    assert remembered("numbers", make, "no.group", kept) == [0, 1, 2, 3]  # a file in place of the folder: nothing kept


@pytest.mark.parametrize("moment", [1.5, 4.0])
def test_an_interrupt_ends_a_command_at_once_in_one_line(tmp_path, ratings, moment):
    command = [sys.executable, "-m", "harness", "run", "--dataset", str(ratings), "--methods", "sasrec", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--set", "sasrec.epochs=100000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    assert process.returncode == 130, told
    assert time.monotonic() - started < 6  # 2 s on an idle machine; the server alone would import for longer than this
