"""Names of outputs and tracks: they head columns of tables and are asked for by users."""

from __future__ import annotations

__all__ = ["output_fault", "track_fault"]

# Columns that tables have beside the outputs.
_RESERVED = frozenset({"gene_id", "transcript_id", "symbol", "status"})
_LONGEST = 200


def track_fault(name: str) -> str | None:
    """Return why a name cannot be that of a track, to stand behind "its name"; None if it can."""
    if not name:
        return "is empty"
    if len(name) > _LONGEST:
        return f"has more than {_LONGEST} characters"
    if not name.isprintable():
        return "holds characters that cannot be printed, such as tabs and line ends"
    if name != name.strip():
        return "begins or ends with a blank"
    return None


def output_fault(name: str) -> str | None:
    """Return why a name cannot be that of an output; None if it can (as `track_fault`)."""
    if "," in name:
        return "holds a comma, at which lists of outputs are split"
    if name in _RESERVED:
        return "is that of another column of the tables"
    return track_fault(name)
