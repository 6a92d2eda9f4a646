"""What all verbs share: kinds of values, options, checks before the work, words after it.

Modules of the command line import nothing heavy at their top; `decode-zoo --help` must not wait
for pandas.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import decode_zoo
from decode_zoo.core.errors import UsageError
from decode_zoo.core.text import counted

if TYPE_CHECKING:
    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.features.genes import GeneList
    from decode_zoo.features.spec import Side
    from decode_zoo.studies.result import Format, StudyResult

_READ = "decode_zoo.read"
_F = TypeVar("_F", bound=Callable[..., Any])


class _File(click.Path):
    """A path; what lies there is whoever opens it to judge, with the exit codes of its errors."""

    def __init__(self, *, read: bool = True) -> None:
        super().__init__(path_type=Path, allow_dash=True, readable=False)
        self.name, self.read = "file", read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):  # which Path takes for the current folder
            self.fail("the name is empty.", param, ctx)
        if self.read and ctx is not None:
            ctx.meta.setdefault(_READ, []).append(os.fspath(value))
        return super().convert(value, param, ctx)


class _Text(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A text that is not empty, and may name a file or folder to read."""

    def __init__(self, name: str, *, read: bool = False) -> None:
        self.name, self.read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail("nothing is given.", param, ctx)
        if self.read and ctx is not None:
            ctx.meta.setdefault(_READ, []).append(str(value))
        return value


class _Names(_Text):
    """Names in a list separated by commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return [name.strip() for name in super().convert(value, param, ctx).split(",")]


class _Pair(_Text):
    """Two names joined by a comma."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = tuple(name.strip() for name in super().convert(value, param, ctx).split(","))
        if len(found) != 2 or not all(found):
            self.fail(f"{value!r} is no pair of {self.name}s; join two by a comma.", param, ctx)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{self.name},{self.name}".upper()


FILE, OUTPUT = _File(), _File(read=False)
SOURCE, TEXT, NAMES = _Text("id|dir", read=True), _Text("text"), _Names("name,…")
TWO_GENES, TWO_NAMES = _Pair("gene"), _Pair("name")
POSITIVE, NATURAL = click.IntRange(min=1), click.IntRange(min=0)


def option(
    kind: Any, names: str, help: str, default: Any = None, **more: Any
) -> Callable[[_F], _F]:
    """Declare an option: what it takes, its names (last, perhaps, its parameter's), its help."""
    if default is not None:
        more["default"] = default
    return click.option(*names.split(), type=kind, help=help, **more)


def together(*declared: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Declare several options or arguments, in this order."""

    def declare(verb: _F) -> _F:
        for one in reversed(declared):
            verb = one(verb)
        return verb

    return declare


def choice(
    names: str, words: str, help: str, default: str | None = None, **more: Any
) -> Callable[[_F], _F]:
    """Declare an option that takes one of some words."""
    return option(click.Choice(words.split()), names, help, default, **more)


def flag(names: str, help: str) -> Callable[[_F], _F]:
    """Declare an option that is given or not."""
    return click.option(*names.split(), is_flag=True, help=help)


model = option(
    SOURCE,
    "--model model_id",
    "Model id in the registry, or a folder with a bundle.",
    required=True,
)
genes = click.argument("genes", required=False, type=FILE)
all_genes = flag("--all-genes", "Take every gene of the feature set.")
outputs = option(NAMES, "--outputs", "Only these outputs, e.g. Liver,Whole_Blood.")
contrasts = option(
    TWO_NAMES,
    "--contrast contrasts",
    "Two outputs, e.g. Liver,Lung: the first less the second, the log2 fold change between them; "
    "may be repeated. Without --outputs, nothing else is given.",
    multiple=True,
)
background = option(
    FILE,
    "--background",
    "Genes to compare with, averaged (default: a gene without sites, of median length).",
)
features = option(
    SOURCE, "--features features_source", "A feature set of your own (default: the model's)."
)
fill_missing = flag(
    "--fill-missing", "Take tracks that --features lacks as without sites, and report them."
)
model_and_genes = together(model, genes, all_genes, outputs)
sample_codes = option(
    FILE, "--codes", "DIR.codes.tsv of a model whose samples were anonymised: who is who."
)
table_format = choice("--format table_format", "tsv parquet", "Of the tables.", "tsv")
seed = option(NATURAL, "--seed", "", 0)
settings = option(
    str,
    "--set settings",
    "A hyper-parameter, see above; may be given several times.",
    multiple=True,
    metavar="NAME=VALUE",
)
table = option(
    OUTPUT,
    "-o --output",
    "Output file: .tsv, .tsv.gz, .csv, .parquet or .h5ad (default: TSV on stdout).",
)
folder = option(OUTPUT, "-o --output", "Folder to write.", required=True)
new_folder = option(OUTPUT, "-o --output", "Folder to write; it must not exist.", required=True)
new_study = together(table_format, new_folder)
force = flag("--force", "Replace an existing output.")


class Verb(click.Command):
    """A command that never overwrites what it reads, and prints what its function returns."""

    def invoke(self, ctx: click.Context) -> None:
        """Check inputs against the option --output, then work; name the output in errors."""
        output, read = ctx.params.get("output"), ctx.meta.get(_READ, [])
        if read.count("-") > 1:
            raise UsageError("Only one list of genes can come from standard input.")
        if output is not None:
            check_inputs_kept(output, f"{output}.provenance.json")
        try:
            result = super().invoke(ctx)
        except OSError as error:  # of a full disk, for instance, which names no file
            if error.filename is None and output is not None:
                error.filename = os.fspath(output)
            raise
        if result is not None:
            click.echo(str(result))


class Verbs(click.Group):
    """A group of such commands."""

    command_class = Verb
    homes: Mapping[str, str] = {}  # verb → module that declares it, imported when it is needed
    # Heading → verb → what it does, for the help of a group with many.
    sections: Mapping[str, Mapping[str, str]] = {}

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a verb."""
        if name in self.homes:
            import_module(f"decode_zoo.cli.{self.homes[name]}")
        return super().get_command(ctx, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all verbs."""
        return sorted({*self.homes, *super().list_commands(ctx)})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs under their headings."""
        if not self.sections:
            super().format_commands(ctx, formatter)
        for heading, verbs in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(list(verbs.items()))


@click.group(
    cls=Verbs,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(decode_zoo.__version__, prog_name="decode-zoo")
@flag("--debug", "Show tracebacks and log messages.")
def cli(debug: bool) -> None:
    """Predict differential gene expression from regulator binding sites.

    \b
    Example:
      decode-zoo predict --model gtex-tissue-v1 genes.tsv -o predictions.tsv

    Each verb has its own --help, with examples. Documentation: README.md and docs/ of the source.

    Exit codes: 0 done, 2 wrong usage, 3 artifact not available, 4 bad input, 5 failed verification,
    6 device not available, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM, as batch systems
    send it); after the last two, too, nothing half-done is left.
    """  # noqa: D301
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(name)s: %(message)s" if debug else "%(message)s",
        stream=sys.stderr,
    )


@click.group(cls=Verbs)
def study() -> None:
    """Ask models what regulators do: take their sites away, relate them to lists and to traits."""


cli.add_command(study)


def check_inputs_kept(*written: str | os.PathLike[str]) -> None:
    """Raise UsageError if a file to be written is also read, whatever --force says."""
    inputs = {}
    for name in click.get_current_context().meta.get(_READ, ()):
        with suppress(OSError, ValueError, AttributeError):  # not there, an id, closed
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


def read_genes(file: Path | None, all_genes: bool | None = None, *, needed: bool = True) -> Any:
    """Read a list of genes, if there is one; it goes without --all-genes, and one is `needed`."""
    from decode_zoo.features.genes import read_gene_list

    if all_genes is not None and not needed <= (file is not None) + all_genes <= 1:
        raise UsageError("Give either a file of genes or --all-genes.")
    return None if file is None else read_gene_list(file)


def measured(path: Path, needed: str = "", **given: object) -> Path:
    """Return where measured expression is: in a folder of `cohort prepare`, or `path`, a matrix.

    What a matrix holds must be `given`, first of all by the option that is `needed`; nothing of
    that goes with a folder.
    """
    if path.is_dir():
        from decode_zoo.cohort.folder import expression_of

        if any(value is not None for value in given.values()):
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{path} is prepared: {names} have nothing left to do.")
        return expression_of(path)
    if needed and next(iter(given.values())) is None:
        raise UsageError(
            f"Say what {path} holds: {needed}.",
            remedy="Or name a folder that 'decode-zoo cohort prepare' made.",
        )
    return path


TWO_CELLS = "Give two cells a line, separated by a tab."


def read_two_columns(path: Path, problem: str) -> Iterator[tuple[int, str, str]]:
    """Read the first two columns of a table: number of the line and two texts, none empty."""
    from decode_zoo.core.reader import Table

    return Table.read(path, header=False).pairs(problem, TWO_CELLS)


def load_own(source: str | None) -> FeatureSet | None:
    """Load a feature set of the user's own, if there is one."""
    import decode_zoo as dz

    return dz.load_features(source) if source else None


def is_stdout(output: Path | None) -> bool:
    """Return whether an output is standard output, which has no provenance beside it."""
    return output is None or str(output) == "-"


def command_line() -> list[str]:
    """Return the words that this process was called with."""
    return ["decode-zoo", *sys.argv[1:]]


def origin(**facts: Any) -> dict[str, Any]:
    """Return command line and facts for the provenance; of files, name and sha256."""
    return {"command": command_line(), "facts": described(facts)}


def record(**facts: Any) -> dict[str, Any]:
    """Return the provenance of this call; of files, name and sha256."""
    from decode_zoo.core.provenance import provenance

    return provenance(command_line(), **described(facts))


def described(value: Any) -> Any:
    """Put name and sha256 in place of each path."""
    from decode_zoo.core.provenance import origin_of

    if isinstance(value, dict):
        return {name: described(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    return origin_of(value) if isinstance(value, Path) else value


@dataclass
class StudyFolder:
    """The folder of a study while it is made; the lines are printed once it is there."""

    path: Path
    table_format: Format
    advance: Callable[[int, int], None]  # of the progress bar: done, of how much
    lines: list[str] = field(default_factory=list)

    def write(self, found: StudyResult) -> None:
        """Fill the folder with what was found, and take the lines that sum it up."""
        from decode_zoo.pages.folders import fill_study

        fill_study(found, self.path, self.table_format)
        self.lines += found.lines


@contextmanager
def study_folder(
    label: str, output: Path, table_format: Format = "tsv", *packages: str
) -> Iterator[StudyFolder]:
    """Check what a study needs later; give a folder that becomes `output`; print the summary."""
    from decode_zoo.core.files import atomic_dir
    from decode_zoo.pages.folders import check_extras

    check_extras(table_format, *packages)
    with atomic_dir(output) as made, progress(label) as advance:
        folder = StudyFolder(made, table_format, advance)
        yield folder
    for line in folder.lines:
        note(line)


def bar(label: str, length: int = 1) -> Any:
    """Return a progress bar on stderr, shown if that is a terminal and it has a label."""
    hidden = not (label and sys.stderr.isatty())
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden)


@contextmanager
def progress(label: str, length: int = 1) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; give a function that takes how much is done, and of how much."""
    with bar(label, length) as shown:

        def advance(done: int, total: int) -> None:
            shown.length = total
            shown.update(done - shown.pos)

        yield advance


def note(text: str) -> None:
    """Print a line on stderr."""
    click.echo(text, err=True)


def statuses(rows: Iterable[str]) -> str:
    """Count the rows of each status: '2 rows (1 ok, 1 unknown_gene)'."""
    count = Counter(status.partition(":")[0] for status in rows)
    parts = ", ".join(f"{number} {name}" for name, number in count.items())
    return f"{counted(count.total(), 'row')} ({parts})"


def note_missing(missing: Mapping[Side, Sequence[str]]) -> None:
    """Name on stderr the tracks that were taken as without sites."""
    for side, names in missing.items():
        if names:
            listed = textwrap.fill(", ".join(names), 100, break_on_hyphens=False)
            note(f"{counted(len(names), f'{side} track')} taken as without sites:\n{listed}")


def note_beside(listed: GeneList | None, known: FeatureSet) -> None:
    """Name on stderr further genes on the first line of a list, which nobody reads."""
    if listed is None or not listed.beside:
        return
    own, *others = known.index.resolve([listed[0], *listed.beside]).rows.tolist()
    extra = [name for name, row in zip(listed.beside, others, strict=True) if row not in (-1, own)]
    if extra:
        note(
            f"The first line names further genes in other columns ({', '.join(extra[:5])}), which "
            "are not read: give one gene a line."
        )


class _Patient:
    """A text stream that goes nowhere once its reader (head, less) has seen enough."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Make standard output and error patient for a while: when their reader leaves, work goes on.

    `decode-zoo verify --all | head -1` must verify all, and end with the code of what it found.
    """
    usual = sys.stdout, sys.stderr
    # Those that are neither closed nor somebody's own.
    patient: list[Any] = [_Patient(s) if isinstance(s, io.TextIOWrapper) else s for s in usual]
    with redirect_stdout(patient[0]), redirect_stderr(patient[1]):
        try:
            yield
        finally:
            for stream in filter(None, patient):
                with suppress(OSError):
                    stream.flush()
