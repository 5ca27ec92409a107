"""Seconds and bytes as a person says them."""


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42.0 s, 5 min 07 s, 3 h 20 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: int) -> str:
    """Bytes as a person says them: 812 B, 41.5 KB, 3.2 MB (1 KB is 1,000 B)."""
    for unit, whole in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if num_bytes >= whole:
            return f"{num_bytes / whole:.1f} {unit}"
    return f"{num_bytes} B"
