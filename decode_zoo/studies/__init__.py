"""Studies: they compute, and return results; nothing here draws or writes a page."""
