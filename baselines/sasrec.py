"""SASRec as a baseline of the paper's Table 3 (METHODS B.1, role a); config and network stand below the baselines."""

from __future__ import annotations

from harness.sequence.sasrec import LITE, PAPER, SASREC, TINY, SASRecConfig, sasrec_assumptions


def original_form(config: SASRecConfig) -> SASRecConfig:
    """The config with the form and the schedule of the SASRec paper's own code (METHODS B.1)."""
    return config.replace(
        style="original",
        num_heads=1,
        inner_size=config.hidden_size,
        beta2=0.98,
        batch_size=128,
        legacy_pad=False,
        softmax="full",
    )


def assumptions(config: SASRecConfig) -> list[str]:
    """What the paper leaves open, as one line each."""
    return [
        f"SASRec: the paper gives only the item dimension (128); {config.style} form, {config.num_layers} layers, "
        f"{config.num_heads} heads, inner size {config.inner_size}, dropout {config.dropout}, "
        f"learning rate {config.learning_rate} are assumed",
        *sasrec_assumptions(config),
    ]


METHOD = SASREC.method(
    title="SASRec",
    groups=("core", "paper"),
    place=130,
    config=SASRecConfig,
    version=2,
    presets={"paper": PAPER, "lite": LITE},
    tiny=TINY,
    recipes={"original": original_form},
    assumptions=assumptions,
)
