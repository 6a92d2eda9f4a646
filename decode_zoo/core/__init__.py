"""What every room stands on: errors, files, tables, schemas, provenance, the machine."""

from __future__ import annotations

__version__ = "0.1.0"
