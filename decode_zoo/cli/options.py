"""Options that several verbs share, and what they tell."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from decode_zoo.errors import UsageError

if TYPE_CHECKING:
    from decode_zoo.features import FeatureSet
    from decode_zoo.genelist import GeneList
    from decode_zoo.layout import Side

__all__ = [
    "FILE",
    "NAME",
    "all_genes",
    "background",
    "check_inputs_kept",
    "codes",
    "counted",
    "features",
    "fill_missing",
    "genes",
    "model",
    "named_in_errors",
    "new_folder",
    "outputs",
    "progress",
    "split_names",
    "statuses",
    "table_format",
    "tell_beside",
    "tell_missing",
]


class _File(click.Path):
    """A path; what lies there is whoever opens it to judge, with the exit codes of its errors."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, allow_dash=True, readable=False)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):  # which Path takes for the current folder
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class _Name(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A text that is not empty."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        if not str(value).strip():
            self.fail("nothing is given.", param, ctx)
        return str(value)


FILE, NAME = _File(), _Name()

model = click.option(
    "--model",
    "model_id",
    type=NAME,
    required=True,
    metavar="ID|DIR",
    help="Model id in the registry, or a folder with a bundle.",
)
genes = click.argument("genes", required=False, type=FILE)
all_genes = click.option("--all-genes", is_flag=True, help="Take every gene of the feature set.")
outputs = click.option(
    "--outputs", metavar="NAME,…", help="Only these outputs, e.g. Liver,Whole_Blood."
)
background = click.option(
    "--background",
    type=FILE,
    metavar="FILE",
    help="Genes to compare with, averaged (default: a gene without sites, of median length).",
)
features = click.option(
    "--features",
    "features_source",
    type=NAME,
    metavar="ID|DIR",
    help="A feature set of your own (default: the model's).",
)
fill_missing = click.option(
    "--fill-missing",
    is_flag=True,
    help="Take tracks that --features lacks as without sites, and report them.",
)

table_format = click.option(
    "--format",
    "table_format",
    type=click.Choice(["tsv", "parquet"]),
    default="tsv",
    show_default=True,
    help="Of the tables.",
)
codes = click.option(
    "--codes",
    type=FILE,
    metavar="FILE",
    help="DIR.codes.tsv of a model whose persons were anonymised: who is who.",
)
new_folder = click.option(
    "-o", "--output", type=FILE, required=True, help="Folder to write; it must not exist."
)


def split_names(text: str | None) -> list[str] | None:
    """Names in a list separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


def counted(number: int, noun: str) -> str:
    """Join a number and its noun: '1 gene', '2 genes'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def statuses(rows: Iterable[str]) -> str:
    """Count the rows of each status: '2 rows (1 ok, 1 unknown_gene)'."""
    count = Counter(status.partition(":")[0] for status in rows)
    parts = ", ".join(f"{number} {name}" for name, number in count.items())
    return f"{counted(count.total(), 'row')} ({parts})"


def check_inputs_kept(
    written: Iterable[str | os.PathLike[str]],
    read: Iterable[str | os.PathLike[str] | None],
) -> None:
    """Refuse outputs that are inputs at the same time, whatever --force says.

    Parameters
    ----------
    written : iterable of path-like
        All that will be written or replaced.
    read : iterable of path-like or None
        All that may be a file or folder to be read; '-' is standard input.

    Raises
    ------
    UsageError
        If one of the files, by whatever name, is among both.
    """
    inputs = {}
    for source in read:
        with suppress(OSError, ValueError, AttributeError):  # not there, an id, closed
            name = os.fspath(source) if source is not None else ""
            inputs[name] = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
    for target in written:
        with suppress(OSError):
            found = os.stat(target)
            for name, status in inputs.items():
                if os.path.samestat(found, status):
                    shown = "standard input" if name == "-" else f"the input {name}"
                    raise UsageError(
                        f"{os.fspath(target)} is to be written, and is the same file as {shown}.",
                        remedy="Choose another name with -o; --force replaces no input.",
                    )


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name an output in errors of the system that name no file, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def progress(label: str, length: int = 1) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, if that is a terminal; give what is told how much of how much is done.

    Parameters
    ----------
    label : str
    length : int
        Of the whole, as far as is known before.
    """
    with click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def tell(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield tell


def tell_missing(missing: Mapping[Side, Sequence[str]]) -> None:
    """Say on stderr which tracks were taken as without sites."""
    for side, names in missing.items():
        if names:
            listed = textwrap.fill(", ".join(names), 100, break_on_hyphens=False)
            tracks = counted(len(names), f"{side} track")
            click.echo(f"{tracks} taken as without sites:\n{listed}", err=True)


def tell_beside(listed: GeneList | None, known: FeatureSet) -> None:
    """Say on stderr if the first line of a list names further genes, which nobody reads."""
    if listed is None or not listed.beside:
        return
    own, *others = known.index.resolve([listed[0], *listed.beside]).rows.tolist()
    extra = [name for name, row in zip(listed.beside, others, strict=True) if row not in (-1, own)]
    if extra:
        click.echo(
            f"The first line names further genes in other columns ({', '.join(extra[:5])}), which "
            "are not read: give one gene a line.",
            err=True,
        )
