"""Runs on disk, and the tables and tests made from them. Stands alone: nothing here knows how a run was made."""
