"""Where numbers come from. Oracle: git itself."""

import subprocess

import pytest

from harness import __version__
from harness.cli import main
from harness.provenance import commit, environment


def git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *author, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_gits_and_a_plus_tells_that_files_differ(tmp_path):
    assert commit(tmp_path) == "none"
    for name in ("clean", "changed"):
        git(tmp_path, "init", name)
        (tmp_path / name / "a").write_text("1")
        git(tmp_path / name, "add", "a")
        git(tmp_path / name, "commit", "-m", "a")
    (tmp_path / "changed" / "a").write_text("2")
    head = {name: git(tmp_path / name, "rev-parse", "HEAD") for name in ("clean", "changed")}
    assert commit(tmp_path / "clean") == head["clean"][:12]
    assert commit(tmp_path / "changed") == head["changed"][:12] + "+"


def test_the_environment_tells_machine_and_versions_and_no_folder():
    found = environment()
    assert {"cpu", "cores", "commit", "packages", "python"} <= set(found)
    assert all("/" not in str(value) for name, value in found.items() if name != "cpu")


@pytest.mark.parametrize("is_checkout", [True, False])
def test_the_version_names_the_commit_of_a_checkout(tmp_path, monkeypatch, capsys, is_checkout):
    expected = f"etegrec-harness {__version__}"
    if is_checkout:
        git(tmp_path, "init")
        git(tmp_path, "commit", "--allow-empty", "-m", "a")
        expected += f" (commit {git(tmp_path, 'rev-parse', 'HEAD')[:12]})"
    monkeypatch.setattr("harness.provenance.ROOT", tmp_path)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == expected + "\n"
