"""How positions become bins: sides, bin width, window, what happens at borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decode_zoo.core.errors import UsageError

__all__ = ["LONGEST", "SIDES", "Binning", "Side", "Track"]

Side = Literal["promoter", "rna"]
SIDES: tuple[Side, Side] = ("promoter", "rna")

# Bases of an RNA or a promoter window; the longest human RNA has 200,000.
LONGEST = 10_000_000


@dataclass(frozen=True)
class Binning:
    """How positions become bins."""

    genome: str = "hg38"
    level: Literal["gene", "transcript"] = "gene"  # what a row is
    bin: int = 100  # bases (nt)
    # Promoter window in bases around the start site, in the direction of transcription.
    upstream: int = 2000
    downstream: int = 1000
    # Sites across an exon or window border count with the part inside, or not at all.
    boundary: Literal["clip", "within"] = "clip"
    # Whether sites have to be on the gene's strand.
    promoter_stranded: bool = False
    rna_stranded: bool = True

    def __post_init__(self) -> None:
        """Refuse layouts that make no bins."""
        if self.bin < 1 or self.upstream < 0 or self.downstream < 0:
            raise UsageError("Bin width must be positive, window sizes must not be negative.")
        if self.window > LONGEST:
            raise UsageError(f"A promoter window has at most {LONGEST} bp, not {self.window}.")
        if self.window < 1 or self.window % self.bin:
            raise UsageError(
                f"The promoter window ({self.window} bp) is not a whole number of bins of "
                f"{self.bin} bp.",
                remedy="Choose --upstream, --downstream and --bin so that it divides.",
            )

    @property
    def window(self) -> int:
        """Length of the promoter window in bases."""
        return self.upstream + self.downstream


@dataclass(frozen=True)
class Track:
    """One experiment's sites of one regulator in one cell type.

    `name` is unique within its side, and models match their inputs by it; `kind` is the class of
    the regulator (``tf``, ``histone``, ``open``, ``rbp``, ``mirna``, …); `sha256` that of the file.
    """

    name: str
    regulator: str
    kind: str
    cell: str
    source: str
    sha256: str = ""
