"""Vectors of users, for item-scoring networks that know whose history they read.

Shape legend: B rows, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.nn.encoder import PackedRows


class UserTable(nn.Embedding):
    """A vector for each training sequence's user; others, and users that are not told, have the mean of them all."""

    def of_rows(self, rows: PackedRows) -> Tensor:
        """(B, D)."""
        users_B = rows.users_B
        if users_B is None:
            return self.weight.mean(dim=0).expand(len(rows.layout.lengths), -1)
        vectors_BD, is_new_B1 = self(users_B.clamp(min=0)), users_B[:, None] < 0
        if users_B.device.type == "cpu" and not is_new_B1.any():  # elsewhere to ask would wait for the device
            return vectors_BD
        return vectors_BD.where(~is_new_B1, self.weight.mean(dim=0))


UNSEEN_USERS = "a user without a training sequence gets the mean vector of all users"
