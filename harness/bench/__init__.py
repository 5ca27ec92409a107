"""How fast the parts of the harness are, and how that compares with transformers' T5 on the same work."""
