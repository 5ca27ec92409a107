"""What messages call things. Oracles: files and encodings made here, iconv's names, the options as typed."""

import errno
import gzip
import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from report_runs import write_report_runs

from harness.cli import app as application
from harness.cli.doctor import extras
from harness.data.files import not_utf8
from harness.errors import DataError

ROWS = "user,item,timestamp\n" + "".join(
    f"u{user},i{(3 * user + at) % 9},{at}\n" for user in range(8) for at in range(4)
)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("marked.csv", ROWS.encode("utf-16"), "this is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 "),
        ("little.csv", ROWS.encode("utf-16-le"), "this is UTF-16LE; convert it: iconv -f UTF-16LE -t UTF-8 "),
        ("big.csv", ROWS.encode("utf-16-be"), "this is UTF-16BE; convert it: iconv -f UTF-16BE -t UTF-8 "),
        ("latin.csv", ROWS.replace("u1,", "\u00e9,").encode("latin-1"), "byte 0xe9 is not: it looks like Latin-1 or"),
        ("cut.csv.gz", gzip.compress(ROWS.encode())[:-20], "the gzip data ends early"),
        ("zip.csv.gz", b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it first"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(40)) * 9, "it is no text; name another"),
    ],
)
def test_a_file_that_is_no_text_is_called_what_it_is(harness, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    ended = harness("data", "describe", name)
    assert (ended.code, told in ended.error) == (2, True), ended.error
    assert name in ended.error


def test_what_the_encoding_of_the_output_cannot_write_is_escaped(tmp_path, monkeypatch):
    (tmp_path / "own.csv").write_text(ROWS.replace("i", "\u4e2d"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    columns = ["--item-col", "\u4e2dtem", "--time-col", "t\u4e2dmestamp"]
    with pytest.raises(SystemExit) as ended:
        application.main(["data", "items", str(tmp_path / "own.csv"), *columns, "--cache-dir", str(tmp_path)])
    assert ended.value.code == 0
    assert sys.stdout.buffer.getvalue().splitlines()[0] == rb"\u4e2d0"


def test_text_that_a_byte_limit_cuts_within_a_letter_is_text():
    assert not_utf8(Path("a.csv"), "tschüss"[:5].encode()[:-1]) is None


def test_the_command_that_a_message_names_mends_the_file(harness, tmp_path):
    (tmp_path / "own data.csv").write_bytes(ROWS.encode("utf-16"))
    command = harness("data", "describe", "own data.csv").error.partition("convert it: ")[2].replace("NEW", "new.csv")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "new.csv").read_text() == ROWS


@pytest.mark.parametrize(
    ("option", "value"), [("--short-users", "dorp"), ("--repeats", "maybe"), ("--decoding", "tri"), ("--split", "half")]
)
def test_a_wrong_value_names_the_option_as_typed(harness, ratings, option, value):
    ended = harness("run", "--dataset", str(ratings), option, value, "--dry-run")
    assert ended.code == 2
    assert value in ended.error
    assert option in ended.error or option == "--split"  # a split may be a plug-in's, known to the registry alone


def test_unreadable_and_unwritable_are_told_apart(tmp_path, monkeypatch):
    path = tmp_path / "ratings.csv"
    path.write_text(ROWS)
    error = PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "ratings.csv: must be readable" in application.told(error)
    assert application.exit_code(error) == 2
    monkeypatch.setattr("os.access", lambda path, mode: True)
    assert "cannot be written" in application.told(error)
    assert "--runs-dir" in application.told(error)
    assert application.exit_code(error) == 1
    assert application.exit_code(DataError("wrong")) == 2
    inside = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "closed" / "ok.csv" / "meta.json"))
    assert "cannot be written" in application.told(inside)
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: (Path(path).name, mode) != ("closed", os.X_OK))
    assert "meta.json: must be readable, but you may not read it" in application.told(inside)
    assert application.exit_code(inside) == 2


def test_compare_takes_names_as_tables_print_them(harness):
    write_report_runs(Path("runs"), "demo")
    printed = [
        harness("compare", name, "TIGER").out for name in ("ETEGRec w/o SIA", "etegrec w/o sia", "etegrec/wo-sia")
    ]
    assert printed[0].startswith("ETEGRec w/o SIA against TIGER")
    assert printed[0] == printed[1] == printed[2]


def test_a_suggestion_of_a_figure_names_the_data_where_they_lie(harness, two_methods):
    told = harness("figure", "ablation", "--method", "popularity").error
    path = told.partition("--dataset ")[2].split()[0]
    assert harness("data", "describe", path).code == 0
    assert harness("run", "--dataset", path, "--methods", "popularity", "--dry-run").out.count("done")


def test_every_command_has_json():
    def commands(group, name):
        for child_name, child in getattr(group, "commands", {}).items():
            yield from commands(child, f"{name} {child_name}".strip())
        if not getattr(group, "commands", None) or getattr(group, "invoke_without_command", False):
            yield name, {option for parameter in group.params for option in parameter.opts}

    without = [
        name for name, options in commands(typer.main.get_command(application.app), "") if "--json" not in options
    ]
    assert without == []


def test_doctor_lists_all_extras_that_the_package_declares(harness):
    declared = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    found = {finding["what"] for finding in json.loads(harness("doctor", "--json").out)}
    assert {f"extra {name}" for name in declared["project"]["optional-dependencies"]} <= found
    assert extras()["figures"] == ["matplotlib"]


def test_the_shell_can_complete_commands(tmp_path):
    words = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness me", "COMP_CWORD": "1"}
    code = "from harness.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert ended.stdout.split() == ["methods"]
