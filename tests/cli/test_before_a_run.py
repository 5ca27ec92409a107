"""What is settled before anything is trained. Oracles: counts of the tiny data, and folders that must not be there."""

import json
from pathlib import Path

import numpy as np
import pytest

NO_TEXTS = (
    "item texts are needed, and there are none; give them with --metadata FILE, or vectors of your own with --text"
)


def run(harness, path, *arguments):
    return harness("run", "--dataset", str(path), "--jobs", "1", *arguments)


def nothing_is_trained() -> bool:
    return not Path("runs").exists() and {path.name for path in Path("cache").iterdir()} <= {"prepared"}


@pytest.mark.parametrize("group", [(), ("--methods", "all"), ("--methods", "paper,core")], ids=" ".join)
def test_methods_that_cannot_run_are_left_out_of_a_group_with_one_line_for_each_cause(harness, ratings, group):
    ended = run(harness, ratings, "--dry-run", *group)
    assert ended.code == 0
    left_out = ["tiger", "letter", *(["diger"] if "all" in group else [])]
    without_texts = f"left out: {', '.join(left_out)}: {NO_TEXTS} file:PATH (docs/item-vectors.md)"
    without_features = "left out: fdsa, s3-rec: item features (categories, store, attributes) are needed"
    lines = sorted(line for line in ended.err.splitlines() if line)
    assert lines[-1] == without_texts
    assert [line[: len(without_features)] for line in lines[:-1]] == ([without_features] if group else [])
    assert "TIGER-SAS" in ended.out
    assert "TIGER," not in ended.out
    planned = json.loads(run(harness, ratings, "--dry-run", "--json", *group).out)
    causes = {cause["cause"]: cause["methods"] for cause in planned["left_out"]}
    assert causes[f"{NO_TEXTS} file:PATH (docs/item-vectors.md)"] == left_out
    assert {cell["label"] for cell in planned["cells"]} >= {"TIGER-SAS, seed 0", "ETEGRec, seed 0"}


def test_a_method_that_is_named_and_cannot_run_is_an_error(harness, ratings):
    ended = run(harness, ratings, "--methods", "core,tiger,letter", "--seeds", "3")
    assert ended.code == 2
    assert ended.error.startswith(f"error: 'tiny' does not allow tiger, letter: {NO_TEXTS}")
    assert nothing_is_trained()


def test_a_data_set_without_a_method_that_can_run_is_an_error(harness, ratings):
    ended = harness("sweep", "--dataset", str(ratings), "--method", "tiger", "--trials", "1")
    assert ended.code == 2
    assert f"'tiny' does not allow tiger: {NO_TEXTS}" in ended.error
    assert nothing_is_trained()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "14"], "--top-k must be at most the number of items, 13 in 'tiny', but is 14; give --top-k 13"),
        (["--beams", "21"], "--beams must be at most the number of items, 13 in 'tiny', but is 21; give --beams 13,"),
        (["--vectors", "no.npy"], "no.npy: no such file"),
        (["--vectors", "short.npy"], "short.npy: has 12 rows and no keys, but the data set has 13 items"),
        (
            ["--vectors", "nan.npy"],
            "nan.npy: item vectors must be finite, but those of 1 items are not, the first being",
        ),
        (
            ["--vectors", "wide.npy", "--methods", "letter", "--text", "file:wide.npy"],
            "must have 32 dimensions for this",
        ),
        (["--text", "file:short.npy", "--methods", "tiger"], "short.npy: has 12 rows and no keys"),
        (["--text", "file:wide.npy", "--methods", "tiger"], "128 dimensions need more items and at least as many"),
        (["--vectors", "wide.npy", "--methods", "sasrec"], "--vectors wide.npy: none of the methods reads it"),
        (["--text", "minilm", "--methods", "markov,etegrec"], "--text minilm: none of the methods reads it"),
    ],
)
def test_limits_and_files_are_checked_before_anything_is_trained(harness, ratings, arguments, message):
    wide = np.random.default_rng(0).normal(size=(13, 40)).astype(np.float32)
    np.save("wide.npy", wide)
    np.save("short.npy", wide[:12])
    np.save("nan.npy", np.where(wide == wide[3, 3], np.nan, wide))
    ended = run(harness, ratings, *arguments)
    assert ended.code == 2
    assert message in ended.error
    assert nothing_is_trained()


def test_a_list_as_long_as_the_items_and_the_default_beam_over_fewer_items_are_allowed(harness, ratings):
    assert run(harness, ratings, "--top-k", "13", "--methods", "popularity,etegrec", "--dry-run").code == 0
    assert run(harness, ratings, "--decoding", "free", "--beams", "40", "--methods", "etegrec", "--dry-run").code == 0


def test_lists_shorter_than_the_papers_k_have_a_table_at_their_own_length(harness, ratings):
    ended = run(harness, ratings, "--methods", "popularity,markov", "--top-k", "7")
    assert ended.code == 0, ended.err
    assert ended.out.split("\n")[2].split() == ["Method", "Recall@5", "Recall@7", "NDCG@5", "NDCG@7"]


TINY = """
[etegrec]
tokenizer = { rqvae = { hidden_sizes = [16], code_dim = 8, codebook_size = 8 }, epochs = 4, evaluate_every = 2 }
generator = { d_model = 16, d_ff = 32, num_heads = 2, d_head = 8 }
alignment_warmup_epochs = 0
epochs = 4
evaluate_every = 4
finetuning = { epochs = 1, evaluate_every = 1 }
[tiger-sas]
tokenizer = { rqvae = { hidden_sizes = [16], code_dim = 8, codebook_size = 8 }, epochs = 4, evaluate_every = 2 }
generator = { d_model = 16, d_ff = 32, num_heads = 2, d_head = 8 }
training = { epochs = 1, evaluate_every = 1 }
[letter]
text = { dim = 4 }
tokenizer = { rqvae = { hidden_sizes = [16], code_dim = 8, codebook_size = 8 }, epochs = 4, num_groups = 2 }
vectors = { hidden_size = 8 }
generator = { d_model = 16, d_ff = 32, num_heads = 2, d_head = 8 }
training = { epochs = 1, evaluate_every = 1 }
[tiger]
text = { dim = 4 }
tokenizer = { rqvae = { hidden_sizes = [16], code_dim = 8, codebook_size = 8 }, epochs = 4, evaluate_every = 2 }
generator = { d_model = 16, d_ff = 32, num_heads = 2, d_head = 8 }
training = { epochs = 1, evaluate_every = 1 }
"""


def test_vectors_by_key_serve_every_method_that_reads_text_or_item_vectors(harness, ratings):
    """The keys come from `data items`, shuffled; the vectors arrive in the items' order; new content is a new row."""
    keys = harness("data", "items", str(ratings)).out.split()
    assert keys == json.loads(harness("data", "items", str(ratings), "--json").out)
    assert sorted(keys) == sorted(f"i{item}" for item in range(13))
    order = np.random.default_rng(1).permutation(13)
    vectors = np.random.default_rng(0).normal(size=(13, 8)).astype(np.float32)
    np.save("own.npy", vectors[order])
    Path("own.keys").write_text("".join(f"{keys[row]}\n" for row in order))
    Path("tiny.toml").write_text(TINY)
    methods = ("--methods", "tiger,tiger-sas,letter,etegrec", "--config", "tiny.toml")
    files = ("--vectors", "own.npy", "--text", "file:own.npy")
    ended = run(harness, ratings, *methods, *files)
    assert ended.code == 0, ended.err
    assert {path.name for path in Path("cache").iterdir()}.isdisjoint({"sasrec", "sasrec-vectors"})
    assert "item vectors from the file own.npy@" in ended.out
    from safetensors.numpy import load_file

    (stored,) = Path("cache/own-vectors").glob("*/item_vectors.safetensors")
    np.testing.assert_array_equal(load_file(stored)["vectors"], vectors)

    before = set(Path("runs").glob("*/*/*/*"))
    np.save("own.npy", 2 * vectors[order])
    ended = run(harness, ratings, "--methods", "tiger-sas", "--config", "tiny.toml", "--vectors", "own.npy")
    assert ended.code == 0, ended.err
    assert len(set(Path("runs").glob("*/*/*/*")) - before) == 1
