"""Hyper-parameter search on validation scores (Optuna)."""
