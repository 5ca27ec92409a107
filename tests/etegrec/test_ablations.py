"""The ablations of Table 4. Oracles: config differences listed by hand, equality to the bit, the stages' own inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_etegrec import ITEM_WIDTH, NUM_ITEMS, TINY, moved, one_batch, tiny_dataset, tiny_training, watch

from etegrec.ablations import ABLATIONS
from etegrec.artifacts import needs
from etegrec.config import ETEGRecConfig
from etegrec.method import METHOD, fit
from harness.artifacts import CODES_FILE
from harness.config import Config, one_line, with_field
from harness.data.text.vectors import save_vectors
from harness.errors import UsageError
from harness.generative.generator import CodeRecommender
from harness.generative.tokenizer.codes import CodeTable
from harness.generative.tokenizer.fit import kmeans, save_tokenizer, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE
from harness.interfaces import FitContext

WARM = TINY.replace(alignment_warmup_epochs=0)


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted path."""
    fields: dict[str, Any] = {}
    for name, value in config:
        below = flat(value) if isinstance(value, Config) else {"": value}
        fields.update({f"{name}.{path}".rstrip("."): leaf for path, leaf in below.items()})
    return fields


@pytest.mark.parametrize("config", [METHOD.presets["lite"], METHOD.presets["paper"]], ids=["lite", "paper"])
@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("sia", {"mu": 0.0}),
        ("psa", {"lambda_": 0.0}),
        ("sia+psa", {"mu": 0.0, "lambda_": 0.0}),
        ("at", {"alternating": False, "finetuning.epochs": 0}),
        ("at+finetuning", {"alternating": False}),
        ("ete", {"end_to_end": False}),
    ],
)
def test_an_ablation_changes_the_fields_that_it_names_and_no_others(
    name: str, difference: dict[str, Any], config: ETEGRecConfig
) -> None:
    before, after = flat(config), flat(ABLATIONS[name].change(config))
    found = {path for path, value in before.items() if after[path] != value}
    assert {path: after[path] for path in found} == difference


def test_every_ablation_has_a_name_and_a_folder_of_its_own() -> None:
    assert len({ablation.variant for ablation in ABLATIONS.values()}) == len(ABLATIONS) == 6
    assert all(name == ablation.name for name, ablation in ABLATIONS.items())


@pytest.mark.parametrize(
    ("name", "still"),
    [
        ("sia", {"sia_adapter"}),
        ("psa", {"psa_adapter"}),
        ("sia+psa", {"sia_adapter", "psa_adapter"}),
    ],
)
def test_without_an_alignment_its_adapter_gets_no_gradient_and_does_not_move(
    tmp_path: Path, name: str, still: set[str]
) -> None:
    training = tiny_training(tmp_path, ABLATIONS[name].change(WARM))
    training.thaw("recommender")
    for piece in training.losses("recommender", one_batch(training), aligned=True):
        piece["total"].backward()
    for adapter in ("sia_adapter", "psa_adapter"):
        has_gradient = [parameter.grad is not None for parameter in getattr(training.model, adapter).parameters()]
        assert has_gradient == [adapter not in still] * len(has_gradient)
    training.model.zero_grad(set_to_none=True)

    seen = watch(training, training.first_stage(), tmp_path)
    all_parts = {"tokenizer", "generator", "sia_adapter", "psa_adapter", "codes_NL"}
    assert moved(seen.snapshots[0], seen.snapshots[-1]) == all_parts - still
    assert [row["phase"] for row in seen.history] == ["tokenizer", "recommender"] * 2


def test_without_both_alignments_each_epoch_has_its_own_loss_alone(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, ABLATIONS["sia+psa"].change(WARM))
    seen = watch(training, training.first_stage(), tmp_path)
    for row in seen.history:
        own = {"tokenizer": "sq", "recommender": "rec"}[row["phase"]]
        assert set(row["losses"]) == {own, "total"}
        assert row["losses"]["total"] == pytest.approx(row["losses"][own])


@pytest.mark.parametrize("name", ["at", "at+finetuning"])
def test_without_alternation_every_step_moves_both_parts(tmp_path: Path, name: str) -> None:
    training = tiny_training(tmp_path, ABLATIONS[name].change(WARM).replace(epochs=2))
    plan = training.first_stage()
    steps: list[tuple[int, int]] = []
    weights = [training.model.tokenizer.codebooks_LKD, training.model.generator.tokens.weight]
    present = [weight.detach().clone() for weight in weights]
    have_moved: list[bool] = []

    def look() -> None:
        steps.append((plan.learners["tokenizer"].steps, plan.learners["recommender"].steps))
        have_moved.extend(not torch.equal(old, new) for old, new in zip(present, weights, strict=True))
        present[:] = [weight.detach().clone() for weight in weights]

    seen = watch(training, plan, tmp_path, at_step=look)
    assert steps == [(step, step) for step in range(1, 2 * training.steps_per_epoch + 1)]
    assert all(have_moved)
    assert [row["phase"] for row in seen.history] == ["joint", "joint"]
    assert set(seen.history[-1]["losses"]) == {"rec", "sq", "sia", "psa", "total"}


def test_fine_tuning_follows_without_alternation_only_where_it_is_asked_for() -> None:
    assert ABLATIONS["at"].change(TINY).finetuning.epochs == 0
    assert ABLATIONS["at+finetuning"].change(TINY).finetuning == TINY.finetuning


def test_fine_tuning_goes_on_from_the_row_without_it_as_if_both_were_one_fit(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    vectors = np.random.default_rng(0).standard_normal((NUM_ITEMS, ITEM_WIDTH)).astype(np.float32)
    rqvae = RQVAE(ITEM_WIDTH, TINY.tokenizer.rqvae, generator=torch.Generator().manual_seed(0))
    start_codebooks(rqvae, torch.from_numpy(vectors), kmeans(TINY.tokenizer.rqvae.codebook_size, seed=0))
    folders = {name: tmp_path / name for name in ("vectors", "tokenizer", "at", "in-two", "in-one")}
    for folder in folders.values():
        folder.mkdir()
    save_vectors(folders["vectors"], dataset.catalog.keys, vectors)
    save_tokenizer(rqvae, folders["tokenizer"])
    artifacts = {name: folders[name] for name in ("vectors", "tokenizer")}

    config = ABLATIONS["at+finetuning"].change(TINY)
    assert needs(config)["etegrec"].config == ABLATIONS["at"].change(TINY)
    fit(ABLATIONS["at"].change(TINY), dataset, artifacts, FitContext(seed=0, folder=folders["at"])).save(folders["at"])
    in_two = fit(config, dataset, artifacts | {"etegrec": folders["at"]}, FitContext(seed=0, folder=folders["in-two"]))
    in_one = fit(config, dataset, artifacts, FitContext(seed=0, folder=folders["in-one"]))
    assert torch.equal(in_two.codes.codes, in_one.codes.codes)
    for name, weight in in_one.model.state_dict().items():
        assert torch.equal(in_two.model.state_dict()[name], weight), name
    assert not (folders["in-two"] / "history-joint.json").exists()


def test_without_end_to_end_needs_the_trained_etegrec_and_nothing_else() -> None:
    (need,) = needs(ABLATIONS["ete"].change(TINY)).values()
    assert need.kind == "etegrec"
    assert need.config == TINY  # the very config of the full method, so its stage is shared


def test_without_end_to_end_keeps_the_codes_and_trains_a_new_recommender(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    training = tiny_training(tmp_path)
    training.model.tokenizer.codebooks_LKD.data.mul_(0.5)
    training.model.refresh_codes()
    codes = training.model.code_table()
    (tmp_path / "etegrec").mkdir()
    codes.save(tmp_path / "etegrec" / CODES_FILE, dataset.catalog.keys)

    context = FitContext(seed=0, folder=tmp_path / "ete")
    rebuilt = fit(ABLATIONS["ete"].change(TINY), dataset, {"etegrec": tmp_path / "etegrec"}, context)
    assert isinstance(rebuilt, CodeRecommender)
    assert torch.equal(rebuilt.codes.codes, codes.codes)
    rebuilt.save(context.folder)
    assert torch.equal(CodeTable.load(context.folder / CODES_FILE, dataset.catalog.keys).codes, codes.codes)
    assert not list(context.folder.rglob("tokenizer*"))
    assert not list(context.folder.rglob("adapters*"))
    assert [path.name for path in context.folder.glob("history-*.json")] == ["history-generator.json"]
    assert not torch.equal(rebuilt.model.tokens.weight, training.model.generator.tokens.weight)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"chunk_size": 65}, ("chunk_size <= batch_size", "chunk_size=65", "batch_size=64")),
        ({"evaluate_every": 1}, ("evaluation must not follow a tokenizer epoch", "evaluate_every=1", "cycle=2")),
        ({"evaluate_every": 3}, ("evaluation must not follow a tokenizer epoch", "evaluate_every=3", "cycle=2")),
        ({"epochs": 5}, ("evaluation must not follow a tokenizer epoch", "epochs=5", "cycle=2")),
    ],
)
def test_a_broken_rule_between_fields_is_one_line_with_rule_and_values(
    changes: dict[str, int], told: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as raised:
        TINY.replace(**changes)
    line = one_line(raised.value)
    assert "\n" not in line
    assert all(part in line for part in told), line
    if len(changes) == 1:
        ((name, value),) = changes.items()
        with pytest.raises(UsageError, match="^etegrec\\." + name):
            with_field(TINY, name, value, prefix="etegrec.")


@pytest.mark.parametrize("cycle", [2, 3, 4])
def test_the_rule_on_evaluations_allows_what_never_scores_after_a_tokenizer_epoch(cycle: int) -> None:
    """Oracle: the evaluations written out. `train` scores after every n-th epoch and after the last one."""
    for evaluate_every in range(1, 9):
        for epochs in range(evaluate_every * cycle, evaluate_every * cycle + 2 * cycle):
            scored = [done for done in range(1, epochs + 1) if done % evaluate_every == 0 or done == epochs]
            is_sound = all((done - 1) % cycle != 0 for done in scored)
            try:
                TINY.replace(cycle=cycle, evaluate_every=evaluate_every, epochs=epochs)
                allowed = True
            except ValidationError:
                allowed = False
            assert allowed == is_sound, (cycle, evaluate_every, epochs)


def test_without_alternation_any_evaluation_interval_is_allowed() -> None:
    assert TINY.replace(alternating=False, evaluate_every=1, epochs=3).epochs == 3
