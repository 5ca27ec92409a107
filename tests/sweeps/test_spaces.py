"""Search spaces. Oracles: the published grids as METHODS lists them, the methods' configs, and arithmetic by hand."""

from collections import Counter

import optuna
import pytest

from harness.config import Config, with_field
from harness.errors import UsageError
from harness.interfaces import Method
from harness.methods import method_named, methods
from harness.sequence.sasrec import LITE
from sweeps.samplers import sampler_named
from sweeps.spaces import Choices, Range, Space, curve_of, grid_of, nested, spaces_from_tables
from sweeps.storage import quiet

GRIDS = [method.name for method in methods().values() if method.grid]


def checked(tables: dict) -> Space:
    (space,) = spaces_from_tables(tables).values()
    return space.checked(method_named(space.method).presets["lite"])


def test_etegrecs_grid_is_the_papers() -> None:
    assert {name: set(field.values) for name, field in grid_of(method_named("etegrec")).fields.items()} == {  # type: ignore[union-attr]
        "learning_rate_recommender": {5e-3, 3e-3, 1e-3},
        "learning_rate_tokenizer": {5e-4, 1e-4, 5e-5},
        "cycle": {2, 4},
        "mu": {5e-3, 1e-3, 5e-4, 3e-4, 1e-4},
        "lambda_": {5e-3, 1e-3, 5e-4, 3e-4, 1e-4},
    }


def test_all_methods_but_popularity_have_a_grid() -> None:
    assert set(methods()) - set(GRIDS) == {"popularity"}
    with pytest.raises(UsageError, match="'popularity' has nothing to search"):
        grid_of(method_named("popularity"))


@pytest.mark.parametrize("preset", ["lite", "paper"])
@pytest.mark.parametrize("name", GRIDS)
def test_every_combination_of_a_grid_is_a_valid_config(name: str, preset: str) -> None:
    method = method_named(name)
    for recipe in (lambda config: config, *method.recipes.values()):
        config = recipe(method.presets[preset])
        space = grid_of(method).checked(config)
        assert space == grid_of(method)
        for point in space.points():
            changed: Config = config
            for field, value in point.items():
                changed = with_field(changed, field, value)


def test_the_curves_are_those_of_figure_4() -> None:
    method = method_named("etegrec")
    assert list(curve_of(method, "mu").points()) == [{"mu": mu} for mu in (1e-4, 3e-4, 5e-4, 1e-3, 5e-3)]
    values = (0.0, 1e-4, 3e-4, 5e-4, 1e-3, 5e-3)
    assert list(curve_of(method, "lambda").points()) == [{"lambda_": value} for value in values]
    with pytest.raises(UsageError, match="none for 'mi'; did you mean 'mu'"):
        curve_of(method, "mi")


def test_a_file_lists_values_and_ranges_also_of_nested_fields() -> None:
    space = checked(
        {
            "etegrec": {
                "lambda": [0, 1e-3],
                "finetuning": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "patience": ["none", 3]},
                "generator.d_ff": {"low": 64, "high": 192, "step": 64},
            }
        }
    )
    assert space.fields == {
        "lambda_": Choices(values=(0.0, 1e-3)),
        "finetuning.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "finetuning.patience": Choices(values=(None, 3)),
        "generator.d_ff": Range(low=64, high=192, step=64),
    }
    assert Space.model_validate_json(space.model_dump_json()) == space


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"etegrek": {"mu": [1]}}, "did you mean 'etegrec'"),
        ({"etegrec": {"my": [1]}}, "unknown field 'etegrec.my'; did you mean 'mu'"),
        ({"etegrec": {"mu": [-1.0]}}, "etegrec.mu=-1.0.*greater than or equal to 0"),
        ({"etegrec": {"mu": {"low": -1.0, "high": 1.0}}}, "etegrec.mu=-1.0"),
        ({"etegrec": {"mu": {"low": 1.0, "high": 0.1}}}, "low < high must hold"),
        ({"etegrec": {"mu": {"low": 0.0, "high": 0.1, "log": True}}}, "needs low > 0"),
        ({"etegrec": {"mu": {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}}}, "log and step exclude"),
        ({"etegrec": {"mu": {"low": 0.1}}}, "etegrec.mu.*high"),
        ({"etegrec": {"mu": []}}, "etegrec.mu"),
        ({"etegrec": {"mu": 3e-4}}, "etegrec.mu: a list of values"),
        ({"etegrec": {}}, r"\[etegrec\] has none"),
        ({"etegrec": {"sia_sign": {"low": 0, "high": 1}}}, "etegrec.sia_sign=0"),
        ({"etegrec": {"adapter_hidden": [[1]]}}, "etegrec.adapter_hidden"),
        ({"etegrec": {"generator": ["small"]}}, "etegrec.generator"),
        ({"sasrec": {"epochs": {"low": 1.5, "high": 3}}}, "sasrec.epochs=1.5"),
    ],
)
def test_what_a_method_cannot_take_is_told_in_one_line(tables: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as told:
        checked(tables)
    assert "\n" not in str(told.value)


def test_log_uniform_widens_lists_of_positive_floats_alone() -> None:
    space = grid_of(method_named("etegrec")).log_uniform()
    assert space.fields["mu"] == Range(low=1e-4, high=5e-3, log=True)
    assert space.fields["cycle"] == Choices(values=(2, 4))


def test_points_of_a_range_need_a_step() -> None:
    space = checked({"etegrec": {"mu": {"low": 0.1, "high": 0.35, "step": 0.1}, "cycle": {"low": 2, "high": 4}}})
    assert [point["mu"] for point in space.points()][::3] == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(UsageError, match=r"'etegrec.mu' is a range; give it a step"):
        list(checked({"etegrec": {"mu": {"low": 0.1, "high": 0.35}}}).points())


def test_dotted_fields_become_tables() -> None:
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_draws_depend_on_the_trials_number_not_on_who_draws(name: str) -> None:
    """All of one study by one sampler, and each trial by a new one: the same draws, and different ones per field."""
    space = Space.model_validate(
        {"method": "sasrec", "fields": {field: {"values": list(range(9))} for field in ("a", "b")}}
    )

    def drawn(fresh: bool) -> list[dict]:
        with quiet():
            study = optuna.create_study(direction="maximize", sampler=sampler_named(name, 3))  # type: ignore[arg-type]
            for _ in range(24):
                if fresh:
                    study.sampler = sampler_named(name, 3)  # type: ignore[arg-type]
                trial = study.ask()
                params = space.suggest(trial)
                study.tell(trial, params["a"] - params["b"])
        return [trial.params for trial in study.trials]

    at_once = drawn(fresh=False)
    assert at_once == drawn(fresh=True)
    assert Counter(params["a"] == params["b"] for params in at_once)[False] > 12
    assert len({params["a"] for params in at_once[:10]}) > 3


def test_a_third_partys_method_without_a_grid_is_searched_by_a_file() -> None:
    method = Method("other", "Other", type(LITE), lambda *_: None, lambda *_: None, presets={"lite": LITE})  # type: ignore[arg-type, return-value]
    assert method.grid == {}
    with pytest.raises(UsageError, match="'other' has nothing to search"):
        grid_of(method)
