"""Splits, one a module; `harness.data.splits.registry` knows them by name."""
