"""A script for a Python that has RecBole: states and loss of one of its sequential models with given weights.

Its arguments: the model's name, its settings as JSON, the npz file that holds `items` (B, S; right-padded with 0),
`lengths`, `targets` and `weight/...`, and the npz file to write `states` (B, D) and the mean `loss` (nats) to.
"""

import json
import sys

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.utils import get_model


class Items:
    """What the model asks of a data set."""

    def __init__(self, num_items: int):
        self.num_items = num_items

    def num(self, field: str) -> int:
        """Items with padding, whatever the field."""
        return self.num_items


def main(name: str, settings: str, source: str, result: str) -> None:
    """Writes the states and the loss, without dropout."""
    sys.argv = sys.argv[:1]  # RecBole reads it
    arrays = dict(np.load(source))
    weights = {key.removeprefix("weight/"): torch.from_numpy(arrays.pop(key)) for key in list(arrays) if "/" in key}
    fixed = {"loss_type": "CE", "train_neg_sample_args": None, "use_gpu": False}
    config = Config(model=name, dataset="made-up", config_dict=json.loads(settings) | fixed)
    model = get_model(name)(config, Items(len(weights["item_embedding.weight"]))).eval()
    model.load_state_dict(weights)
    items, lengths, targets = (torch.from_numpy(arrays[key]) for key in ("items", "lengths", "targets"))
    fields = {model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: lengths, model.POS_ITEM_ID: targets}
    with torch.no_grad():
        loss = model.calculate_loss(Interaction(fields))
        np.savez(result, states=model(items, lengths).numpy(), loss=loss.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
