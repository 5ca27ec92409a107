"""Oracle: the meaning that the README and the help texts give to each form, written out by hand."""

import pytest

from harness.cli.values import (
    config_file,
    line_of,
    names_of,
    seeds_of,
    telling_lines,
)
from harness.errors import FieldError, UsageError
from harness.experiment.settings import assignments_of, overlaid


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [0, 1, 2]), ("1", [0]), ("0", [0]), ("0,1,2", [0, 1, 2]), ("7,", [7]), ("5,2,5", [5, 2])],
)
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "one", "-1", "1.5", ","])
def test_seeds_that_are_no_numbers_are_refused(text):
    with pytest.raises(UsageError, match="--seeds must be"):
        seeds_of(text)


def test_more_seeds_than_a_user_can_mean_are_refused_with_the_way_to_name_one():
    with pytest.raises(
        UsageError, match=r"--seeds 2024 means 2,024 seeds, but at most 100 .* write 2024, with a comma"
    ):
        seeds_of("2024")
    assert seeds_of("2024,") == [2024]
    with pytest.raises(UsageError, match="--seeds must be at most 9223372036854775807"):
        seeds_of("7,9223372036854775808")


def test_a_group_names_its_members_and_repeats_count_once():
    groups = {"all": ["a", "b", "c"], "few": ["a", "b"]}
    assert names_of("all", ["a", "b", "c"], "method", groups) == ["a", "b", "c"]
    assert names_of("b, a,b", ["a", "b", "c"], "method", groups) == ["b", "a"]
    assert names_of("c,few,b", ["a", "b", "c"], "method", groups) == ["c", "a", "b"]


def test_an_unknown_name_brings_the_nearest_known_one():
    with pytest.raises(UsageError, match="unknown method 'tigre'; did you mean 'tiger'"):
        names_of("tigre", ["tiger", "sasrec"], "method", {})
    with pytest.raises(UsageError, match="unknown method 'SASREC'; did you mean 'sasrec'"):
        names_of("SASREC", ["tiger", "sasrec"], "method", {})
    with pytest.raises(UsageError, match="unknown method 'papper'; did you mean 'paper'"):
        names_of("papper", ["tiger", "sasrec"], "method", {"paper": ["sasrec"]})


def test_assignments_become_nested_tables():
    texts = ["etegrec.mu=3e-4", "etegrec.finetuning.epochs=0", "tiger.tokenizer.rqvae.hidden_sizes=[64, 32]"]
    assert assignments_of(texts) == {
        "etegrec": {"mu": "3e-4", "finetuning": {"epochs": "0"}},
        "tiger": {"tokenizer": {"rqvae": {"hidden_sizes": [64, 32]}}},
    }


@pytest.mark.parametrize("text", ["mu=1", "etegrec.mu", "etegrec.=1", "tiger.sizes=[64", "=1"])
def test_malformed_assignments_are_refused(text):
    with pytest.raises(UsageError, match="--set"):
        assignments_of([text])


def test_later_tables_lie_over_earlier_ones():
    assert overlaid({"a": {"x": 1, "y": {"z": 1}}}, {"a": {"y": {"w": 2}}, "b": {"q": 3}}) == {
        "a": {"x": 1, "y": {"z": 1, "w": 2}},
        "b": {"q": 3},
    }


def test_broken_toml_is_told_with_its_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[etegrec]\nmu = \n")
    with pytest.raises(UsageError, match=r"broken\.toml: must be TOML, but .*line 2"):
        config_file(path)
    path.write_text("\nmu = 1\n")
    with pytest.raises(UsageError, match=r"broken\.toml:2: 'mu' must stand in a table"):
        config_file(path)


FILE = """\
# "etegrec.mu" is given below
[etegrec]
lambda = [
    1,  # of several lines

    2,
]
"mu" = 3
generator.d_ff = 64

[etegrec.finetuning]
note = '''
epochs = 1
'''
epochs = { low = 1, high = 2 }

[sasrec]
dropout = 0.5
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("etegrec", 2),
        ("etegrec.lambda_", 3),
        ("etegrec.lambda", 3),
        ("etegrec.mu", 8),
        ("etegrec.generator.d_ff", 9),
        ("etegrec.finetuning.epochs", 15),
        ("etegrec.finetuning.epochs.high", 15),
        ("sasrec", 17),
        ("sasrec.dropout", 18),
        ("sasrec.epochs", None),
        ("dropout", None),
    ],
)
def test_a_field_is_found_on_the_line_where_its_value_begins(tmp_path, field, line):
    """Oracle: the lines counted by hand; each kind of line that TOML knows for a key."""
    path = tmp_path / "fields.toml"
    for text in (FILE, FILE.replace("\n", "\r\n")):
        path.write_bytes(text.encode())
        assert line_of(path, field) == line


def test_an_error_names_the_files_line_but_not_for_what_an_option_gave(tmp_path):
    path = tmp_path / "fields.toml"
    path.write_text(FILE)

    def told(field, above=None, file=path):
        with pytest.raises(UsageError) as error, telling_lines(file, above):
            raise FieldError("a rule", field)
        return str(error.value)

    assert told("sasrec.dropout") == f"{path}:18: a rule"
    assert told("sasrec.dropout", {"sasrec": {"epochs": 3}}) == f"{path}:18: a rule"
    assert told("sasrec.dropout", {"sasrec": {"dropout": 3}}) == "a rule"
    assert told("etegrec.lambda_", {"etegrec": {"lambda": 3}}) == "a rule"
    assert told("sasrec.epochs") == "a rule"
    assert told("sasrec.dropout", file=None) == "a rule"
