"""The demo data set: a small generated marketplace, embedded so that everything runs without a download.

It is synthetic and labelled so; its numbers say nothing about a real market. What it is for: it has what makes the
families of methods differ on real sets. Transitions carry most of the signal, but each leads to several items;
which ones, the texts say (series, brand, "made for"). Later models of a series are alike in text and few have bought
them, since they come out while the market runs. Interests drift, most histories are short, and some are long.

How a user's next item comes about, with the chances below:

1. one of the next two models of the series of the last item, or of the one before it;
2. an item of the series made to go with the last item's;
3. an item of the same brand, in another leaf category;
4. anything at all, by popularity;
5. else an item of the user's present interest (a leaf category), by popularity; interests drift.

A model that is not out yet gives way to the latest of its series.

It resembles the Amazon sets in the lengths of histories, and in the order and gaps of popularity, transitions, SASRec
and the generative methods (docs/decisions.md). It does not resemble them in size (they have 8 to 30 times the items and
a tenth of the density), in texts (these are built from few words), in cold items (every item is in training), nor in
who wins among the generative methods, which differ here by less than chance.

The stream is NumPy's legacy `RandomState.random_sample`, which NumPy promises never to change, and weights are
whole numbers, so every machine generates the same set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.text.metadata import item_text

DEMO_CONFIG = PrepareConfig(core=5, repeats="drop")  # as the Amazon sets

NUM_USERS = 1_000
SERIES_PER_LEAF = 3
MODELS_PER_SERIES = 5
SHORTEST, LONGEST = 6, 60  # interactions of a user before the filter
MOST_MORE = 7  # interactions that most users have at most above the shortest
ITEMS_PER_MISSING_TEXT = 97  # as in real sets, some items have no metadata
SEED = 20_240_905

# Chances of each source of the next item; what is left goes to the user's interest.
NEXT_IN_SERIES, SERIES_BEFORE, ACCESSORY, SAME_BRAND, ANYTHING = 0.10, 0.05, 0.18, 0.07, 0.20
OPENING_MS, DAY_MS = 1_609_459_200_000, 86_400_000  # the market's first day, since 1970
DAYS_OF_ARRIVALS = 500  # a user's first interaction is on one of them
LONGEST_GAP = 60  # days between a user's interactions, a third of it on average
DAYS_BETWEEN_MODELS = 120  # in a series
DRIFT = 0.10  # chance per step that the interest moves to another leaf category
HEAD = 16  # the popularity weight of the item of rank r is 1 / (r + HEAD): smaller is more skewed

# department → leaf category → (noun, what its features speak of)
TREE: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "Camp and Trail": {
        "Stoves": ("Camp Stove", ("piezo ignition", "folding pot arms", "simmer valve", "wind shield")),
        "Fuel": ("Gas Canister", ("self-sealing valve", "winter mix", "recyclable steel", "level gauge")),
        "Cookware": ("Cook Pot", ("anodised base", "strainer lid", "litre marks", "folding handle")),
        "Tents": ("Tunnel Tent", ("sealed seams", "two porches", "colour-coded poles", "rip-stop fly")),
        "Lanterns": ("Lantern", ("warm light", "hand crank", "hanging loop", "rain proof")),
    },
    "Home Studio": {
        "Microphones": ("Condenser Microphone", ("cardioid pattern", "low self-noise", "pad switch", "gold capsule")),
        "Stands": ("Boom Stand", ("counterweight", "tripod base", "cable clips", "quick clutch")),
        "Interfaces": ("Audio Interface", ("two preamps", "direct monitoring", "loopback", "bus powered")),
        "Headphones": ("Studio Headphones", ("closed back", "velour pads", "coiled cord", "flat response")),
        "Keyboards": ("Controller Keyboard", ("weighted keys", "aftertouch", "drum pads", "pitch strip")),
    },
    "Kitchen Garden": {
        "Seeds": ("Seed Packet", ("open pollinated", "early harvest", "frost hardy", "heirloom strain")),
        "Planters": ("Raised Planter", ("cedar boards", "drainage mat", "corner brackets", "knee height")),
        "Soil": ("Potting Soil", ("peat free", "composted bark", "slow release", "sieved fine")),
        "Watering": ("Drip Kit", ("pressure regulator", "barbed joints", "timer ready", "UV stable hose")),
        "Pruning": ("Hand Pruner", ("bypass blade", "sap groove", "ash handle", "safety catch")),
    },
    "Model Railway": {
        "Locomotives": ("Tank Locomotive", ("flywheel motor", "sprung buffers", "firebox glow", "decoder socket")),
        "Wagons": ("Goods Wagon", ("metal wheels", "brake detail", "removable load", "close coupling")),
        "Track": ("Flexible Track", ("nickel silver", "fine scale", "concrete sleepers", "live frog")),
        "Signals": ("Colour Light Signal", ("warm bulbs", "relay ready", "etched ladder", "two aspects")),
        "Scenery": ("Station Kit", ("laser cut", "printed brick", "clear glazing", "lift-off roof")),
    },
    "Paint and Ink": {
        "Watercolours": ("Watercolour Set", ("single pigment", "half pans", "honey binder", "lightfast")),
        "Brushes": ("Round Brush", ("sable blend", "fine point", "seamless ferrule", "birch handle")),
        "Paper": ("Cotton Paper", ("cold pressed", "acid free", "gelatine sized", "deckle edge")),
        "Pens": ("Dip Pen", ("flexible nib", "cork grip", "crow quill", "brass holder")),
        "Easels": ("Table Easel", ("beech frame", "tilting top", "storage drawer", "leather strap")),
    },
    "Bicycle Workshop": {
        "Chains": ("Bicycle Chain", ("hollow pins", "nickel plates", "quick link", "eleven speed")),
        "Lubricants": ("Chain Wax", ("dry film", "drip bottle", "no solvents", "wet weather")),
        "Tyres": ("Touring Tyre", ("puncture belt", "reflective wall", "folding bead", "supple casing")),
        "Tools": ("Chain Tool", ("spare pin", "steel body", "link hook", "shop grade")),
        "Lights": ("Dynamo Light", ("standlight", "cut-off beam", "alloy shell", "side glow")),
    },
}
BRANDS = {
    "Camp and Trail": ("Fellgate", "Tarnhow", "Brackenridge", "Hollin"),
    "Home Studio": ("Ostrava Audio", "Quillon", "Marsten", "Vesper Labs"),
    "Kitchen Garden": ("Thornbury", "Greenlock", "Pomfret", "Larkmead"),
    "Model Railway": ("Eskdale Models", "Bramhope", "Peverell", "Junction Nine"),
    "Paint and Ink": ("Ferrand", "Ochre House", "Castellan", "Inkwood"),
    "Bicycle Workshop": ("Velmont", "Cogsworthy", "Arlen Cycle", "Tramline"),
}
_ROOTS = (
    *("Alder", "Birch", "Cobalt", "Dapple", "Ember", "Falcon", "Garnet", "Harrow", "Indigo", "Juniper"),
    *("Kestrel", "Linden", "Meridian", "Nimbus", "Onyx", "Plover", "Quartz", "Rowan", "Saffron", "Tamarisk"),
    *("Umber", "Verity", "Willow", "Yarrow"),
)
_ENDINGS = ("crest", "way", "stone", "field", "light")
SERIES_NAMES = tuple(root + ending for ending in _ENDINGS for root in _ROOTS)


@dataclass(frozen=True)
class Market:
    """The items, by (department, leaf, series, model): the item number is that tuple's place in this order."""

    leaf: np.ndarray  # (N,)
    released: np.ndarray  # (N,) the day from which the item is sold
    models_after: np.ndarray  # (N,) how many models of the series follow
    accessory_series: np.ndarray  # (N,) the series made for the item's
    sibling_series: np.ndarray  # (N,) a series of the same brand in another leaf category of the department
    cumulated: np.ndarray  # (N + 1,) int64 cumulated popularity weights
    records: tuple[dict[str, object], ...]  # metadata of each item

    def popular(self, chance: np.ndarray) -> np.ndarray:
        """Items drawn by popularity; `chance` is uniform in [0, 1)."""
        return self._drawn(chance, np.zeros_like(chance, np.int64), np.full(len(chance), len(self.leaf)))

    def of_leaf(self, chance: np.ndarray, leaf: np.ndarray) -> np.ndarray:
        """Items of the leaf categories, drawn by popularity."""
        per_leaf = SERIES_PER_LEAF * MODELS_PER_SERIES
        return self._drawn(chance, leaf * per_leaf, (leaf + 1) * per_leaf)

    def of_series(self, chance: np.ndarray, series: np.ndarray) -> np.ndarray:
        """Items of the series, drawn by popularity."""
        return self._drawn(chance, series * MODELS_PER_SERIES, (series + 1) * MODELS_PER_SERIES)

    def _drawn(self, chance: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        low, high = self.cumulated[first], self.cumulated[end]
        drawn = low + (chance * (high - low)).astype(np.int64)
        return np.searchsorted(self.cumulated, drawn, side="right") - 1

    def later_model(self, chance: np.ndarray, item: np.ndarray) -> np.ndarray:
        """One of the next two models of each item's series, or -1 where there is none."""
        after = self.models_after[item]
        return np.where(after > 0, item + 1 + (chance * np.minimum(after, 2)).astype(np.int64), -1)

    def on_sale(self, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """The item, or where it is not out on that day the latest model of its series that is."""
        early = np.maximum(self.released[item] - day, 0)
        return item - np.ceil(early / DAYS_BETWEEN_MODELS).astype(np.int64)


def market() -> Market:
    """The demo's items with their texts and relations."""
    stream = np.random.RandomState(SEED)
    leaves = [(department, leaf) for department in TREE for leaf in TREE[department]]
    num_series = len(leaves) * SERIES_PER_LEAF
    num_items = num_series * MODELS_PER_SERIES
    item = np.arange(num_items)
    series, model, leaf = (
        item // MODELS_PER_SERIES,
        item % MODELS_PER_SERIES,
        item // MODELS_PER_SERIES // SERIES_PER_LEAF,
    )
    leaf_of_series, place = np.arange(num_series) // SERIES_PER_LEAF, np.arange(num_series) % SERIES_PER_LEAF
    brand_of_series = (place + leaf_of_series) % SERIES_PER_LEAF
    # The accessory of a series: the series of the same place in the next leaf category of the department.
    accessory_series = _further_leaf(leaf_of_series, 1) * SERIES_PER_LEAF + place
    sibling_leaf = _further_leaf(leaf_of_series, 2)
    sibling_series = sibling_leaf * SERIES_PER_LEAF + (brand_of_series - sibling_leaf) % SERIES_PER_LEAF

    rank = np.argsort(np.argsort(stream.random_sample(num_items)))
    weights = 60_000 // (rank + HEAD)
    return Market(
        leaf=leaf,
        released=model * DAYS_BETWEEN_MODELS,
        models_after=MODELS_PER_SERIES - 1 - model,
        accessory_series=accessory_series[series],
        sibling_series=sibling_series[series],
        cumulated=np.concatenate([[0], np.cumsum(weights)]),
        records=_records(leaves, brand_of_series, accessory_series),
    )


def _further_leaf(leaf: np.ndarray, steps: int) -> np.ndarray:
    """The leaf category so many places further in its department, in a circle."""
    size = len(TREE["Camp and Trail"])
    return leaf - leaf % size + (leaf % size + steps) % size


def _records(
    leaves: list[tuple[str, str]], brand_of_series: np.ndarray, accessory_series: np.ndarray
) -> tuple[dict[str, object], ...]:
    """Metadata of each item, in the keys of Amazon Reviews 2023."""
    made_for = np.argsort(accessory_series)  # the series whose accessory this one is
    records: list[dict[str, object]] = []
    for series in range(len(accessory_series)):
        department, leaf = leaves[series // SERIES_PER_LEAF]
        noun, features = TREE[department][leaf]
        brand = BRANDS[department][brand_of_series[series]]
        name, other = SERIES_NAMES[series], int(made_for[series])
        other_noun = TREE[department][leaves[other // SERIES_PER_LEAF][1]][0]
        for model in range(MODELS_PER_SERIES):
            chosen = [features[(series + model + step) % len(features)] for step in range(2)]
            records.append(
                {
                    "title": f"{brand} {name} {noun} Mark {model + 1}",
                    "store": brand,
                    "categories": [department, leaf],
                    "features": [f"{feature.capitalize()}." for feature in chosen],
                    "description": [
                        f"The {name} {noun.lower()} with {chosen[0]} and {chosen[1]}.",
                        f"Made to go with the {SERIES_NAMES[other]} {other_noun.lower()} Mark {model + 1}.",
                    ],
                }
            )
    return tuple(records)


def _sequences(items: Market, stream: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users, longest) item numbers and days, and each user's number of interactions; all users walk in step."""
    user = np.arange(NUM_USERS)
    start = stream.random_sample(NUM_USERS) * DAYS_OF_ARRIVALS
    gaps = stream.random_sample((NUM_USERS, LONGEST))
    days = start[:, None] + np.cumsum(gaps * gaps * LONGEST_GAP, axis=1)
    chance = stream.random_sample(NUM_USERS)
    # Products alone, which are the same on every machine: most users stay near the shortest, a few go far beyond.
    rarely = chance * chance * chance
    hardly_ever = rarely
    for _ in range(4):
        hardly_ever = hardly_ever * hardly_ever
    lengths = SHORTEST + (MOST_MORE * rarely + (LONGEST - SHORTEST - MOST_MORE) * hardly_ever).astype(np.int64)
    seen = np.zeros((NUM_USERS, len(items.leaf)), bool)
    walk = np.zeros((NUM_USERS, LONGEST), np.int64)
    interest = items.leaf[items.popular(stream.random_sample(NUM_USERS))]
    for step in range(LONGEST):
        drifts = stream.random_sample(NUM_USERS) < DRIFT
        interest = np.where(drifts, items.leaf[items.popular(stream.random_sample(NUM_USERS))], interest)
        chosen = items.on_sale(_next_items(items, walk[:, max(step - 2, 0) : step], interest, stream), days[:, step])
        for _ in range(3):  # an item bought before gives way to another of the user's interest
            other = items.on_sale(items.of_leaf(stream.random_sample(NUM_USERS), interest), days[:, step])
            chosen = np.where(seen[user, chosen], other, chosen)
        walk[:, step] = chosen
        seen[user, chosen] = True
    return walk, days, lengths


def _next_items(items: Market, recent: np.ndarray, interest: np.ndarray, stream: np.random.RandomState) -> np.ndarray:
    """(users,) the next item of each user, given the last two (fewer at the start)."""
    source, pick, partner = stream.random_sample((3, NUM_USERS))
    chosen = items.of_leaf(pick, interest)
    if recent.shape[1]:
        last, before = recent[:, -1], recent[:, 0]
        same_brand = items.of_series(partner, items.sibling_series[last])
        options = (
            (NEXT_IN_SERIES, items.later_model(partner, last)),
            (SERIES_BEFORE, items.later_model(partner, before)),
            (ACCESSORY, items.of_series(partner, items.accessory_series[last])),
            (SAME_BRAND, same_brand),
            (ANYTHING, items.popular(partner)),
        )
        reached = 0.0
        for probability, option in options:
            applies = (source >= reached) & (source < reached + probability) & (option >= 0)
            chosen = np.where(applies, option, chosen)
            reached += probability
    return chosen


def demo() -> RawInteractions:
    """The demo's interactions (by user and time) and texts; the same on every machine."""
    items = market()
    stream = np.random.RandomState(SEED + 1)
    walk, days, lengths = _sequences(items, stream)
    kept = np.arange(LONGEST) < lengths[:, None]
    user, step = np.nonzero(kept)
    times = OPENING_MS + (days * DAY_MS).astype(np.int64)
    keys = np.array([f"D{number:05d}" for number in range(len(items.leaf))])
    frame = pl.DataFrame(
        {
            "user": [f"shopper-{number:04d}" for number in user],
            "item": keys[walk[user, step]],
            "time": times[user, step],
        }
    ).with_columns(pl.col("user", "item").cast(pl.Categorical))
    texts: Mapping[str, str | None] = {
        str(key): item_text(record)
        for number, (key, record) in enumerate(zip(keys, items.records, strict=True))
        if number % ITEMS_PER_MISSING_TEXT
    }
    return RawInteractions(frame, texts, synthetic=True)
