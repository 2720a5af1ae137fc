"""Where benchmarks' tools put their files."""

from pathlib import Path


def home() -> Path:
    """The user's folder; the current one for a user who has none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path()
