"""The guide to the API runs as it is printed. Oracle: the command line's own table of the same runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import DOCS, blocks

import harness
from harness.cli import main


def test_the_guides_code_runs_and_prints_the_table_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(DOCS / "api.md", "python")
    script = "if __name__ == '__main__':\n" + "\n".join(f"    {line}" for line in code.splitlines())
    (tmp_path / "notebook.py").write_text(script)

    command = [sys.executable, "notebook.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "Markov is better than" in ended.stdout or "No difference can be told" in ended.stdout
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as table:
        main(["table", "overall", "--format", "text", "--ci"])
    assert not table.value.code
    assert capsys.readouterr().out.strip() in ended.stdout


def test_every_name_of_the_package_is_one_of_the_api() -> None:
    from harness import api

    assert sorted(harness.__all__) == sorted(api.__all__)
    assert {name: getattr(harness, name) for name in harness.__all__} == {n: getattr(api, n) for n in api.__all__}


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, harness; print('torch' in sys.modules, harness.View().intervals, 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["False", "False", "True"]
