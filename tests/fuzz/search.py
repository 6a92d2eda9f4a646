"""Search for inputs that break a reader, led by the code that they reach (atheris, libFuzzer).

    python -m tests.fuzz.search                        # all readers, a few seconds each
    python -m tests.fuzz.search --seconds 600 gtf bed  # longer, some of them

Anything but a DecodeZooError is a failure, and so are a warning, a hang and more than 2 GiB of
memory. The input is then printed, with the command that keeps it as a case: tests/test_fuzz.py
reads all cases every time, and the next search starts from them. Each search draws the same
numbers; how far it gets depends on the machine. Where atheris is not installed (it has no wheels
for some systems) it says so, and nothing is searched.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HANG_SECONDS, MEMORY_MB, LONGEST = 20, 2048, 8192
# libFuzzer takes no longer word into its dictionary.
LONGEST_WORD = 64
MOST_PRINTED = 40  # lines of what a failing search said


def search(reader: str, folder: Path, options: list[str]) -> None:
    """Fuzz one reader. libFuzzer ends the process: 0 at the end of its time, else by a fault."""
    import atheris

    with atheris.instrument_imports(include=["decode_zoo"]):
        from tests.fuzz import targets

    seeds = folder / f"{reader}-seeds"
    seeds.mkdir()
    (seeds / "good").write_bytes(targets.good_file(reader, folder))
    for case in targets.CASES:
        if case.name.partition("-")[0] == reader:
            (seeds / case.name).write_bytes(case.read_bytes())
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={folder}/{reader}-found-", str(seeds)],
        lambda data: targets.read_cleanly(reader, data, folder),
    )
    atheris.Fuzz()


def stands(reader: str, seconds: int, folder: Path) -> bool:
    """Fuzz one reader in a process of its own, and print what came of it."""
    options = [
        "-seed=1",
        f"-max_total_time={seconds}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={LONGEST}",
        "-len_control=20",
        f"-dict={folder / 'words'}",
        "-print_final_stats=1",
    ]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.search", "--one", reader, str(folder), *options],
        env={**os.environ, "PYTHONHASHSEED": "0", "DECODE_ZOO_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "executed_units" in line]
    if done.returncode == 0 and runs:
        print(f"{reader}: {runs[-1]} inputs, {time.monotonic() - started:.0f} s", flush=True)
        return True
    # The traceback is on standard output; of libFuzzer's words, not those on its progress.
    said = [line for line in done.stderr.splitlines() if not line.startswith("#")]
    print(
        f"{reader}: FAILED ({done.returncode})",
        *done.stdout.splitlines()[-MOST_PRINTED:],
        *said[-MOST_PRINTED:],
        sep="\n  ",
    )
    for found in folder.glob(f"{reader}-found-*"):
        text = base64.b64encode(found.read_bytes()).decode()
        print(
            "To keep this input as a case, named by what is wrong with it:\n"
            f"  echo {text} | base64 -d >tests/fuzz/cases/{reader}-WHAT-IS-WRONG",
            flush=True,
        )
    return False


def write_words(words: list[bytes], path: Path) -> None:
    """Write a dictionary as libFuzzer reads it."""
    lines = (
        "".join(f"\\x{byte:02x}" for byte in word) for word in words if len(word) <= LONGEST_WORD
    )
    path.write_text("".join(f'"{line}"\n' for line in lines))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.search")
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--seconds", type=int, default=3, help="for each reader (3)")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("no atheris for this Python or system: nothing was searched")
        return 0
    from tests.fuzz.targets import NASTY, READERS, prepare

    unknown = sorted(set(arguments.readers) - set(READERS))
    if unknown:
        parser.error(f"no such reader: {', '.join(unknown)}; there are {', '.join(READERS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        write_words(NASTY, folder / "words")
        readers = arguments.readers or READERS
        stood = [stands(reader, arguments.seconds, folder) for reader in readers]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        search(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    sys.exit(main())
