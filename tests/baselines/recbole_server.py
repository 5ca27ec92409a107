"""A script for a Python that has RecBole: logits and loss of one of its sequential models with given weights.

Its arguments: the model's name, its settings as JSON (`counts` in it: how many users, features and the like there are,
by field), the npz file that holds `items` (B, S; right-padded with 0), `lengths`, `targets`, `weight/...`, what the
model reads besides as `field/NAME`, and item features as `feature/NAME`; and the npz file to write to: `logits` (B,
items with padding), the mean `loss` (nats), and `pretrain`, the loss of S3-Rec's first stage, where that is given.
"""

import json
import sys

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType, get_model


class MadeUp:
    """What the models ask of a data set."""

    def __init__(self, num_items, counts, features, config):
        self.item_num, self.user_num = num_items, counts.get("user_id", 0)
        self.counts, self.features, self.config = counts, features, config
        self.field2type = {
            name: FeatureType.TOKEN if values.dim() == 1 else FeatureType.TOKEN_SEQ for name, values in features.items()
        }

    def num(self, field):
        """Values of the field with padding; items, whatever else is asked for."""
        return self.counts.get(field, self.item_num)

    def get_item_feature(self):
        """The features of all items, that of padding first."""
        return Interaction({"item_id": torch.arange(self.item_num), **self.features})


def main(name: str, settings: str, source: str, result: str) -> None:
    """Writes what the model answers, without dropout."""
    sys.argv = sys.argv[:1]  # RecBole reads it
    arrays = {key: torch.from_numpy(array) for key, array in np.load(source).items()}
    parts = {kind: {key[len(kind) :]: arrays[key] for key in arrays if key.startswith(kind)} for kind in KINDS}
    weights, fields, features, segments = parts.values()
    settings = json.loads(settings)
    counts = settings.pop("counts", {})
    fixed = {"loss_type": "CE", "train_neg_sample_args": None, "use_gpu": False}
    config = Config(model=name, dataset="made-up", config_dict=settings | fixed)
    data = MadeUp(counts.get("item_id", len(weights["item_embedding.weight"])), counts, features, config)
    model = get_model(name)(config, data).eval()
    model.load_state_dict(weights)
    given = {
        model.ITEM_SEQ: arrays["items"],
        model.ITEM_SEQ_LEN: arrays["lengths"],
        model.POS_ITEM_ID: arrays["targets"],
    }
    interaction = Interaction(given | fields)
    with torch.no_grad():
        found = {"logits": model.full_sort_predict(interaction)}
        if segments:
            found["pretrain"] = model.pretrain(**segments)
            model.loss_fct, model.train_stage = torch.nn.CrossEntropyLoss(), "finetune"
        found["loss"] = model.calculate_loss(interaction)
    np.savez(result, **{key: tensor.numpy() for key, tensor in found.items()})


KINDS = ("weight/", "field/", "feature/", "pretrain/")

if __name__ == "__main__":
    main(*sys.argv[1:])
