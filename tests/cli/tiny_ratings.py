"""Interactions so few that every run takes a moment: 40 users with 6 each, 13 items, in the Amazon format."""

ROWS = [
    f"u{user},i{(user + step * (1 + user % 3)) % 13},5.0,{1_600_000_000_000 + step}"
    for user in range(40)
    for step in range(6)
]
