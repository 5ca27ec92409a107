"""A benchmark and ablation harness for ETEGRec and its baselines."""

__version__ = "0.1.0"
