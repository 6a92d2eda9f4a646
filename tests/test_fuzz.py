"""Whatever bytes a reader is given, it reads them or raises a DecodeZooError.

Good files are changed at random, with a liking for what has broken readers before. Cases that were
found are kept in tests/fuzz/cases, named by the reader; they are read again here, every time.

    FUZZ_EXAMPLES=20000 pytest tests/test_fuzz.py    # a longer search
    python -m tests.fuzz.search                      # another, led by what the code does (atheris)
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CASES, NASTY, READERS, good_file, prepare, read_cleanly

pytestmark = pytest.mark.fault
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    prepare(place)
    return place


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Where (of the whole), how many bytes go, and what comes."""
    piece = st.one_of(st.sampled_from(NASTY), st.binary(max_size=8))
    place = st.floats(0, 1, allow_nan=False)
    return draw(st.lists(st.tuples(place, st.integers(0, 40), piece), min_size=1, max_size=5))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_cases_that_were_found_stay_mended(folder, path):
    read_cleanly(path.name.partition("-")[0], path.read_bytes(), folder)


@pytest.mark.parametrize("reader", READERS)
def test_no_change_of_a_good_file_crashes_its_reader(folder, reader):
    good = good_file(reader, folder)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(changes(), st.sampled_from(["plain", "gzip", "cut"]))
    def search(edits: list[tuple[float, int, bytes]], wrapping: str) -> None:
        data = bytearray(good)
        for where, gone, piece in edits:
            place = int(where * len(data))
            data[place : place + gone] = piece
        changed = bytes(data)
        if wrapping != "plain":
            changed = gzip.compress(changed, mtime=0)
        read_cleanly(reader, changed[:-9] if wrapping == "cut" else changed, folder)

    search()


@pytest.mark.parametrize("reader", READERS)
def test_no_bytes_crash_a_reader(folder, reader):
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(NASTY)).map(b"".join)))
    def search(data: bytes) -> None:
        read_cleanly(reader, data, folder)

    search()


@pytest.mark.parametrize("reader", READERS)
def test_the_good_files_are_good(folder, reader):
    """Else the search would only ever see the first check."""
    read, name, _ = READERS[reader]
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(good_file(reader, folder))
    try:
        read(path)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
