"""Binding sites: which files hold which tracks, and the intervals in them.

A *track* is one experiment's sites of one regulator in one cell type. Tracks come as a folder of
BED files, as a manifest that names them, or as one file whose name column tells the regulator.
Formats: BED3, BED6 and ENCODE narrowPeak (BED6+4), plain or gzip.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.core.arrays import IntArray
from decode_zoo.core.errors import InputError
from decode_zoo.core.files import sha256_of
from decode_zoo.core.reader import Table, read_columns
from decode_zoo.features.genome import Genome, read_strands, refuse_lines
from decode_zoo.features.spec import Side, Track

__all__ = ["SiteFile", "Sites", "describe_tracks", "find_site_files", "read_sites", "refuse_twice"]

_log = logging.getLogger(__name__)

_BED_SUFFIXES = (".bed", ".narrowPeak", ".broadPeak", ".bed3", ".bed6")
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, _BED_SUFFIXES))})?(\.gz)?$", re.IGNORECASE)
_DEFAULT_KIND = {"promoter": "tf", "rna": "rbp"}
_MANIFESTS = ("manifest.tsv", "manifest.tsv.gz")
# Column names of manifests, ours first.
_REGULATOR_COLUMNS = ("regulator", "factor")


@dataclass(frozen=True)
class SiteFile:
    """A file of sites and its track; with `by_name`, the name column tells the regulators."""

    path: Path
    track: Track
    by_name: bool = False


@dataclass(frozen=True)
class Sites:
    """Sites of one file: the track of each (a code), chromosome code, 0-based half-open interval.

    Strands are +1, -1, or 0 where they were not read. All columns have shape (n,).
    """

    tracks: tuple[Track, ...]
    codes: IntArray
    chroms: IntArray
    starts: IntArray
    ends: IntArray
    strands: npt.NDArray[np.int8]


def describe_tracks(tracks: Sequence[Track]) -> str:
    """Count tracks by class, e.g. ``3 tracks of 2 regulators (2 histone, 1 tf)``."""
    kinds = Counter(track.kind for track in tracks)
    parts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    regulators = len({track.regulator for track in tracks})
    return f"{len(tracks)} tracks of {regulators} regulators ({parts})"


def _is_bed(path: Path) -> bool:
    return bool(_SUFFIX.search(path.name)[1])  # type: ignore[index]


def _stem(path: Path) -> str:
    """Return a file's name without .gz and one suffix of BED's family."""
    return _SUFFIX.sub("", path.name, count=1)


def find_site_files(
    source: str | os.PathLike[str], side: Side, *, by_name: bool = False
) -> list[SiteFile]:
    """List the site files that a folder, a manifest or a single file stands for.

    Parameters
    ----------
    source : path-like
        A folder (each BED file a track named by its stem, ``regulator@cell:rest`` or
        ``regulator.cell.rest``; a manifest in it is not used), a manifest (tab-separated, header
        ``file regulator cell kind``, optionally ``track`` and ``source``; ``factor`` is accepted
        for ``regulator``; a regulator of ``*`` or starting with ``name column`` means that each
        line's name column tells it; paths relative to the manifest), or one BED file.
    side : {"promoter", "rna"}
        Decides the class of regulators where none is given (``tf`` or ``rbp``).
    by_name : bool
        The name column of the single file holds the regulator; its class is ``mirna``.

    Raises
    ------
    InputError
        If nothing is found, the manifest lacks columns or names missing files, or two files
        would give the same track.
    """
    path = Path(source)
    if path.is_dir():
        files = [
            SiteFile(entry, _track_of_stem(_stem(entry), side))
            for entry in sorted(path.iterdir())
            if _is_bed(entry)
        ]
        if not files:
            raise InputError(
                "the folder holds no BED files",
                path=path,
                remedy=f"Files are recognised by their suffix: {', '.join(_BED_SUFFIXES)} (.gz).",
            )
        unused = next((path / name for name in _MANIFESTS if (path / name).is_file()), None)
        if unused:
            _log.warning(
                "%s is not used, tracks are named by their files; give the manifest itself to have "
                "them named regulator@cell and classed by it",
                unused,
            )
    elif not path.exists():
        raise InputError(
            "no such file or folder",
            path=path,
            remedy="Check the name, and the folder it is looked for in.",
        )
    elif by_name:
        files = [SiteFile(path, Track("", "", "mirna", "", path.name), by_name=True)]
    elif _is_bed(path):
        files = [SiteFile(path, _track_of_stem(_stem(path), side))]
    else:
        files = _read_manifest(path, side)
    refuse_twice((f.track.name for f in files if not f.by_name), path)
    return files


def _track_of_stem(stem: str, side: Side) -> Track:
    """``SPI1@GM12878:ENCFF1`` or ``SPI1.GM12878.ENCFF1``: regulator, cell, then what may."""
    at, end = ("@", ":") if "@" in stem else (".", ".")
    regulator, _, rest = stem.partition(at)
    return Track(stem, regulator, _DEFAULT_KIND[side], rest.partition(end)[0], stem)


def refuse_twice(names: Iterable[str], path: Path | None = None) -> None:
    """Raise InputError if a name of a track occurs more than once."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"{len(twice)} track names occur more than once: {', '.join(twice[:5])}",
            path=path,
            remedy="Rename the files, or name the tracks in a 'track' column of a manifest.",
        )


def _read_manifest(path: Path, side: Side) -> list[SiteFile]:
    table = Table.read(path)
    header = [name.lower() for name in table.header]
    regulator_column = next((c for c in _REGULATOR_COLUMNS if c in header), "")
    if "file" not in header or not regulator_column:
        raise table.fault(
            "is neither a BED file (by its suffix) nor a manifest: its header must name the "
            "columns 'file' and 'regulator'",
            1,
        )
    described: list[tuple[SiteFile, str]] = []
    for line, cells in table.cells():
        row = dict(zip(header, cells, strict=False))
        for column, what in (("file", "file"), (regulator_column, "regulator")):
            if not row.get(column):
                raise table.fault(f"no {what} is named", line)
        named = Path(os.path.normpath(row["file"]))
        file = path.parent / named
        # A manifest may come from elsewhere: it names its own files, and those beside its folder.
        if named.is_absolute() or named.parts[:2] == ("..", ".."):
            raise table.fault(
                f"names a file neither in its own folder nor in one beside it: {row['file'][:80]}",
                line,
                "Put the manifest nearer to its files (links will do), and name them relative to "
                "it.",
            )
        if not os.path.isfile(file):
            raise table.fault(f"names a file that does not exist: {row['file'][:80]}", line)
        regulator, cell = row[regulator_column], row.get("cell", "")
        kind, source = row.get("kind") or _DEFAULT_KIND[side], row.get("source") or file.name
        if regulator == "*" or regulator.lower().startswith("name column"):
            described.append((SiteFile(file, Track("", "", kind, cell, source), by_name=True), ""))
            continue
        name = f"{regulator}@{cell}" if cell else regulator
        rest = _stem(file).removeprefix(regulator).lstrip(".").removeprefix(cell).lstrip(".")
        if row.get("track"):  # a name that was given is never changed
            name, rest = row["track"], ""
        described.append((SiteFile(file, Track(name, regulator, kind, cell, source)), rest))
    if not described:
        raise InputError("lists no files", path=path)
    # Several experiments of one regulator in one cell: what else the file name says tells them
    # apart, usually an accession.
    count = Counter(file.track.name for file, _ in described if not file.by_name)
    return [
        replace(file, track=replace(file.track, name=f"{file.track.name}:{rest}"))
        if count[file.track.name] > 1 and rest
        else file
        for file, rest in described
    ]


def read_sites(file: SiteFile, genome: Genome, *, stranded: bool) -> Sites:
    """Read the sites of one file; those on sequences that the genome lacks are left out.

    With `stranded`, every site must have a strand in column 6. A line that is no BED, a site past
    its chromosome's end, a chromosome of another build and a file without any line on the genome
    are an InputError; a file without lines is a track without sites, which is warned of.
    """
    columns = {"chrom": 0, "start": 1, "end": 2}
    columns |= {"name": 3} if file.by_name else {}
    columns |= {"strand": 5} if stranded else {}
    what = "BED6 (stranded)" if stranded else "BED"
    table = read_columns(file.path, tuple(columns), tuple(columns.values()), what=what)
    track = replace(file.track, sha256=sha256_of(file.path))
    tracks: tuple[Track, ...] = (track,)
    codes = np.zeros(len(table), np.int64)
    strands = np.zeros(len(table), np.int8)
    if table.empty:
        _log.warning("%s: holds no sites, its track will be empty", file.path)
        return Sites(() if file.by_name else tracks, codes, codes, codes, codes, strands)
    chroms, starts, ends = genome.place(table, file.path, empty=True)
    if stranded:
        strands = read_strands(
            table,
            file.path,
            "Sites on RNAs are matched by strand (column 6); if yours have none, ignore strands "
            "(--rna-strand ignore).",
        )
    if file.by_name:
        refuse_lines(
            table["name"].isin(("", ".")).to_numpy(),
            "a site without a name (column 4)",
            table,
            file.path,
            "Here the name of a site tells its regulator.",
        )
        # One track a name, sorted by name so that line order does not matter.
        which, texts = pd.factorize(table["name"])
        names, ranks = np.unique(np.array(list(texts), str), return_inverse=True)
        codes = ranks[which]
        cell = f"@{track.cell}" if track.cell else ""
        tracks = tuple(replace(track, name=n + cell, regulator=n) for n in names.tolist())
    known = chroms >= 0
    return Sites(tracks, codes[known], chroms[known], starts[known], ends[known], strands[known])
