"""Item features. Oracles: metadata written here by hand; the attribute file of beauty2014, read with json alone."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.formats.items import item_features
from harness.data.formats.read import read_interactions
from harness.data.item_features import amazon_features, recbole_features
from harness.data.open import Source, open_dataset
from harness.data.prepare import load_dataset, prepare
from harness.errors import DataError
from harness.interfaces import Need
from harness.methods import methods, obstacle
from harness.sequence.features import fields_of

METADATA = [
    {"parent_asin": "w", "store": "Acme", "categories": ["Tools", "Saws", " Hand &amp; Saws", "Saws"]},
    {"parent_asin": "x", "store": None, "categories": ["Tools"]},
    {"parent_asin": "y", "categories": [""]},
    {"parent_asin": "unwanted", "store": "Other", "categories": ["Toys", "Balls"]},
]


@pytest.fixture
def metadata(tmp_path):
    path = tmp_path / "meta.jsonl"
    path.write_text("\n".join(map(json.dumps, METADATA)))
    return path


def raw(features):
    frame = pl.DataFrame({"user": list("aaaabbbb"), "item": list("wxyzzyxw"), "time": list(range(8))})
    return RawInteractions(frame.with_columns(pl.col("user", "item").cast(pl.Categorical)), features=features)


def test_categories_lose_their_root_and_repeats_and_values_are_cleaned(metadata):
    found = amazon_features(metadata, set("wxy"))
    assert found == {
        "categories": {"w": ["Saws", "Hand & Saws"], "x": [], "y": []},
        "store": {"w": ["Acme"], "x": [], "y": []},
        "brand": {"w": [], "x": [], "y": []},
    }


def test_tables_of_items_have_features_too(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,brand,categories\nw,Saw,Acme,Saws\nx,Nail,,Nails\n")
    found = item_features(path, {"w", "x"})
    assert found["brand"] == {"w": ["Acme"], "x": []}
    assert found["categories"] == {"w": ["Saws"], "x": ["Nails"]}


def test_recboles_token_columns_are_values_and_worded_ones_are_not(tmp_path):
    path = tmp_path / "x.item"
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tprice:float\ttext:token_seq"
    path.write_text(f"{header}\nw\tThe Saw\t1995\tAction Drama Action\t2.5\tlong\nx\tNail\t\tDrama\t1\t\n")
    expected = {"release_year": {"w": ["1995"], "x": []}, "class": {"w": ["Action", "Drama"], "x": ["Drama"]}}
    assert recbole_features(path, {"w", "x"}) == item_features(path, {"w", "x"}) == expected
    assert recbole_features(path, {"x"})["class"] == {"x": ["Drama"]}


def test_genres_and_years_of_ml100k_are_those_of_its_file(real_data):
    folder = real_data("ml100k")
    lines = (folder / "ml-100k.item").read_text().splitlines()[1:]
    expected = {key: (year, kinds) for key, _, year, kinds in (line.split("\t") for line in lines)}
    features = read_interactions(folder).features
    assert set(features) == {"release_year", "class"}
    assert len(features["class"]) == 1_682
    for key, kinds in features["class"].items():
        assert (" ".join(features["release_year"][key]), " ".join(kinds)) == expected[key]


def test_features_are_stored_by_item_and_fields_without_values_are_not(metadata, tmp_path):
    features = {**amazon_features(metadata, set("wxy")), "empty": {"w": []}}
    prepare(raw(features), PrepareConfig(min_interactions=3), tmp_path / "d", "d")
    catalog = load_dataset(tmp_path / "d").catalog
    by_key = {name: dict(zip(catalog.keys, values, strict=True)) for name, values in catalog.features.items()}
    nothing = {"x": (), "y": (), "z": ()}
    assert by_key == {"categories": {"w": ("Saws", "Hand & Saws"), **nothing}, "store": {"w": ("Acme",), **nothing}}


def made_up_dataset(features):
    train = Sequences.from_rows([[1, 2], [3, 1]])
    return Dataset("d", "0", Catalog(("w", "x", "y"), None, features), train, EvalCases(train, np.ones(2, np.int32)))


def test_values_get_numbers_and_items_rows_of_them():
    stores, kinds = (("b",), (), ("a",)), (("p", "q"), ("q",), ())
    first, second = fields_of(made_up_dataset({"store": stores, "kind": kinds}), ())
    assert (first.name, first.values) == ("store", ("a", "b"))
    assert first.of_items.tolist() == [[0], [2], [0], [1]]
    assert second.of_items.tolist() == [[0, 0], [1, 2], [2, 0], [0, 0]]
    (only,) = fields_of(made_up_dataset({"store": stores, "kind": kinds}), ("kind",))
    assert only.name == "kind"


def test_data_without_features_and_unknown_fields_are_one_line():
    without, stores = made_up_dataset({}), made_up_dataset({"store": (("a",), (), ())})
    with pytest.raises(DataError, match=r"data set 'd': item features .* are needed, and there are none") as error:
        fields_of(without, ())
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="the items have no feature 'stor'; did you mean 'store'"):
        fields_of(stores, ("stor",))


@pytest.mark.parametrize("name", ["fdsa", "s3-rec"])
def test_methods_that_need_features_are_refused_before_anything_is_trained(name):
    need = Need(name, methods()[name].presets["lite"])
    assert "item features" in obstacle(need, made_up_dataset({}))
    assert obstacle(need, made_up_dataset({"store": (("a",), (), ())})) is None


def test_attributes_of_beauty_are_those_of_its_file(real_data):
    folder = real_data("beauty2014")
    features = read_interactions(folder).features
    with gzip.open(folder / "Beauty_item2attributes.json.gz") as file:
        expected = {item: [str(number) for number in numbers] for item, numbers in json.load(file).items()}
    assert {item: values for item, values in features["attributes"].items() if values} == {
        item: list(dict.fromkeys(values))
        for item, values in expected.items()
        if values and item in features["attributes"]
    }
    assert len(features["attributes"]) == 12_101


@pytest.mark.slow
def test_stores_of_scientific_reach_the_catalog(real_data, tmp_path):
    dataset = load_dataset(open_dataset(Source(str(real_data("scientific2018"))), tmp_path))
    assert set(dataset.catalog.features) <= {"store", "categories"}
    assert sum(map(bool, dataset.catalog.features["store"])) > 2_000
