"""What a short list costs from a cold start: processor time against the imports alone.

    python -m benchmarks.cold_predict [--runs 9]

Runs `decode-zoo predict` on examples/genes.tsv and a process that only imports numpy, pandas, scipy
and onnxruntime, in turn, and prints the ratio of their medians. The first call fills the cache.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = ["-c", "import numpy, pandas, scipy, onnxruntime"]
PREDICT = ["-m", "decode_zoo", "predict", "--model", "gtex-tissue-v1", "examples/genes.tsv"]


def seconds(arguments: list[str]) -> float:
    """Return the processor time of a process and its threads, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@click.command()
@click.option("--runs", default=9, show_default=True)
def main(runs: int) -> None:
    """Print the ratio."""
    seconds(PREDICT)
    pairs = [(seconds(IMPORTS), seconds(PREDICT)) for _ in range(runs)]
    imports, predict = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"imports {imports:.2f} s, predict {predict:.2f} s: ratio {predict / imports:.2f}")


if __name__ == "__main__":
    main()
