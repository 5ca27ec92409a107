"""RecBole's models beside our methods of the same name: its settings from our configs, and its files from our data.

Both sides have the same widths, batches and longest history. RecBole makes its batches itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from baselines import bert4rec, caser, fdsa, gru4rec, hgn, s3rec
from harness.bench.recbole_peer import RecBole, recbole_process, transformer_settings
from harness.bench.workload import FEATURES, Workload
from harness.config import merged
from harness.data.dataset import Dataset
from harness.errors import StageError
from harness.interfaces import Method
from harness.sequence.model import SequenceModel
from harness.sequence.training import SequenceTraining

NAME = "bench"  # of RecBole's data set


@dataclass(frozen=True)
class RecBoleModel:
    """A method and RecBole's model of the same name."""

    method: Method
    model: SequenceModel
    theirs: str
    settings: Callable[[Any, int], dict[str, Any]]  # RecBole's from our config and the longest history
    aim: float  # times as fast in training
    pretrains: bool = False  # whether the first of two stages is measured
    changes: Mapping[str, Any] = field(default_factory=dict)  # to our config, for the same work as RecBole's

    @property
    def title(self) -> str:
        """What is measured."""
        return f"{self.method.title} {'pre-training' if self.pretrains else 'training'}"

    def config(self, *, tiny: bool) -> SequenceTraining:
        """What is measured: the sizes of the paper. Padding is a class of the softmax, as RecBole has it."""
        sized = merged(self.method.presets["paper"], self.method.tiny if tiny else {})
        config = merged(sized, {"legacy_pad": True, **self.changes})
        assert isinstance(config, SequenceTraining)
        return config


def gru4rec_settings(config: gru4rec.GRU4RecConfig, longest: int) -> dict[str, Any]:
    """GRU4Rec's."""
    return {
        "MAX_ITEM_LIST_LENGTH": longest,
        "embedding_size": config.embedding_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "dropout_prob": config.dropout,
    }


def caser_settings(config: caser.CaserConfig, longest: int) -> dict[str, Any]:
    """Caser's."""
    return {
        "MAX_ITEM_LIST_LENGTH": min(config.window, longest),
        "embedding_size": config.embedding_size,
        "nv": config.vertical_filters,
        "nh": config.horizontal_filters,
        "dropout_prob": config.dropout,
        "reg_weight": config.regularisation,
    }


def hgn_settings(config: hgn.HGNConfig, longest: int) -> dict[str, Any]:
    """HGN's."""
    return {
        "MAX_ITEM_LIST_LENGTH": longest,
        "embedding_size": config.embedding_size,
        "pooling_type": "average",
        "reg_weight": [0.0, 0.0],
    }


def bert4rec_settings(config: bert4rec.BERT4RecConfig, longest: int) -> dict[str, Any]:
    """BERT4Rec's."""
    masks = {"mask_ratio": config.mask_ratio, "ft_ratio": config.last_share}
    return transformer_settings(config, longest) | masks


def fdsa_settings(config: fdsa.FDSAConfig, longest: int) -> dict[str, Any]:
    """FDSA's, which reads all fields."""
    return transformer_settings(config, longest) | {"selected_features": [*FEATURES], "numerical_features": []}


def s3rec_settings(config: s3rec.S3RecConfig, longest: int) -> dict[str, Any]:
    """S3-Rec's second stage; attributes come from one field."""
    return transformer_settings(config, longest) | {"item_attribute": "kind", "finetune": True}


def s3rec_first_settings(config: s3rec.S3RecConfig, longest: int) -> dict[str, Any]:
    """S3-Rec's first stage."""
    first = config.pretraining
    weights = {f"{name}_weight": getattr(first, f"{name}_weight") for name in ("aap", "mip", "map", "sp")}
    tasks = {"item_attribute": "kind", "mask_ratio": first.mask_ratio, "train_batch_size": first.batch_size}
    return transformer_settings(config, longest) | weights | tasks


ONE_FIELD = {"pretraining": {"features": ["kind"]}}
MODELS = (
    RecBoleModel(gru4rec.METHOD, gru4rec.GRU4REC, "GRU4Rec", gru4rec_settings, aim=10),
    RecBoleModel(fdsa.METHOD, fdsa.FDSA_MODEL, "FDSA", fdsa_settings, aim=10),
    RecBoleModel(bert4rec.METHOD, bert4rec.BERT4REC, "BERT4Rec", bert4rec_settings, aim=10),
    RecBoleModel(s3rec.METHOD, s3rec.S3REC, "S3Rec", s3rec_first_settings, 10, pretrains=True, changes=ONE_FIELD),
    RecBoleModel(s3rec.METHOD, s3rec.S3REC, "S3Rec", s3rec_settings, 10, changes=ONE_FIELD),
    RecBoleModel(caser.METHOD, caser.CASER, "Caser", caser_settings, aim=3),
    RecBoleModel(hgn.METHOD, hgn.HGN_MODEL, "HGN", hgn_settings, aim=3),
)


def write_atomic_files(dataset: Dataset, folder: Path, fields: Mapping[str, str]) -> None:
    """The training sequences, and all items with the given fields (RecBole's type by name), as RecBole reads them.

    Two items follow each sequence, which RecBole takes for validation and test. They are of no account: all items in
    turn, so that each occurs.
    """
    rows = []
    for user in range(dataset.num_users):
        follow = (np.arange(2 * user, 2 * user + 2) % dataset.num_items + 1).tolist()
        items = dataset.train.row(user).tolist() + follow
        rows += [f"{user}\t{item}\t{place}\n" for place, item in enumerate(items)]
    (folder / f"{NAME}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(rows))
    header = "\t".join(["item_id:token", *(f"{name}:{kind}" for name, kind in fields.items())])
    columns = [dataset.catalog.features[name] for name in fields]
    lines = [
        "\t".join([str(item), *(" ".join(values) for values in of_item)])
        for item, of_item in enumerate(zip(*columns, strict=True) if columns else [()] * dataset.num_items, start=1)
    ]
    (folder / f"{NAME}.item").write_text("\n".join([header, *lines]) + "\n")


@contextmanager
def started_model(one: RecBoleModel, config: SequenceTraining, workload: Workload) -> Iterator[RecBole | None]:
    """RecBole's model of a method in a process of its own while the block lasts; None if the setup wants none.

    `StageError` where it learns from another number of samples than there are.
    """
    setup, dataset = workload.setup, workload.with_features
    if setup.recbole_python is None:
        yield None
        return
    fields = FEATURES if "features" in one.method.inputs else {}
    with recbole_process(setup) as recbole:
        (recbole.folder / NAME).mkdir()
        write_atomic_files(dataset, recbole.folder / NAME, fields)
        common = {
            "model": one.theirs,
            "dataset": NAME,
            "data_path": str(recbole.folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", *fields]},
            "learning_rate": config.learning_rate,
            "train_batch_size": config.batch_size,
            "eval_batch_size": workload.sizes.users,
        }
        recbole("start", settings=common | one.settings(config, dataset.max_history), threads=setup.threads)
        theirs, ours = recbole("samples"), len(workload.samples)
        if theirs != ours:
            raise StageError(
                f"RecBole's {one.theirs} must learn from our {ours} samples, but finds {theirs:.0f}; "
                "compare with RecBole 1.2.1"
            )
        yield recbole
