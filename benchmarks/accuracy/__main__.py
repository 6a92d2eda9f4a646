"""The honest comparison of predictors: one split, one set of features, one bootstrap.

    python -m benchmarks.accuracy FEATURES EXPRESSION --out DIR [--model BUNDLE] [--only STEP,…]

FEATURES is a feature set (folder or id) with positions, EXPRESSION the matrix of log2(TPM + 0.25);
where its genes come from is read from the file beside it (….source.tsv.gz), if there is one.
Compared are ridge and kernel ridge regression, LightGBM, the published network (the best of three
repeats), and ours: a trained bundle, or networks trained here. Controls: the number of bound TFs
alone, the RNA's length alone, inputs permuted over genes (RNA, promoter, both), no HepG2 tracks,
no targets by TFEA.ChIP.

Every model, seed and output is a step with a file of its own in DIR, named by a hash of all that
decides it. What is there is not made again, so that a run that was killed goes on; other settings
or data make other files. The report (DIR/report) is of those with the settings given. Steps are
chosen by model (``--only ridge,kernel_ridge``), pattern (``--only 'ours*'``) or name
(``--only lightgbm.Liver,report``); ``--list`` shows them. The report runs last if nothing or
``report`` is chosen, and is the only step that compares anything with test genes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import click

import decode_zoo as dz
from benchmarks.accuracy.plan import Plan, chosen_jobs, gather, jobs_of, plan_for_bundle
from benchmarks.accuracy.predictions import make_once, path_of
from benchmarks.accuracy.report import read_sources, write_report
from conversion.gtex_tissue_decode_v1 import SELECTION
from conversion.gtex_tissue_v1 import BINDING, MIN_TPM
from decode_zoo.cohort.expression import make_targets, read_expression
from decode_zoo.core.files import sha256_of
from decode_zoo.training.members import PerceptronFit

REPORT = "report"


def make_plan(features: str, expression: Path, kinds: str, model: str | None, members: int) -> Plan:
    """Read the data and settle the settings."""
    opened = dz.load_features(features)
    seeds = tuple(range(1, members + 1))
    plan = Plan(
        opened,
        make_targets(read_expression(expression), min_tpm=MIN_TPM),
        {"features": opened.sha256, "expression": sha256_of(expression)},
        replace(SELECTION, kinds=tuple(kinds.split(","))),
        fit=PerceptronFit(seeds=seeds),
    )
    return plan if model is None else plan_for_bundle(plan, dz.load(model), seeds)


def run(
    plan: Plan,
    folder: Path,
    steps: tuple[str, ...] = (),
    *,
    sources: dict[str, str] | None = None,
    resamples: int = 1000,
) -> str:
    """Make what is missing, then the report; returns its page, or nothing without one."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = jobs_of(plan)
    patterns = [step for step in steps if step != REPORT]
    for job in jobs if not steps else chosen_jobs(jobs, patterns):
        started = time.monotonic()
        made = make_once(folder, job.name, job.settings, job.make)
        click.echo(
            f"{job.name}: {time.monotonic() - started:.0f} s" if made else f"{job.name}: there",
            err=True,
        )
    if steps and REPORT not in steps:
        return ""
    models, missing = gather(jobs, folder)
    if not models:
        return ""
    return write_report(plan, models, missing, sources or {}, folder / REPORT, resamples=resamples)


def source_beside(expression: Path) -> Path:
    """Return where the table of the genes' sources lies."""
    return expression.with_name(expression.name.replace(".tsv", ".source.tsv"))


@click.command()
@click.argument("features")
@click.argument("expression", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--model",
    help="A trained bundle (folder or id) that is ours; its tracks and split are then used.",
)
@click.option("--only", default="", help="Steps, by commas.")
@click.option("--kinds", default=",".join(BINDING), show_default=True, help="Without --model.")
@click.option(
    "--members",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Networks of ours to train, for each control too.",
)
@click.option("--resamples", default=1000, show_default=True, type=click.IntRange(100))
@click.option("--list", "listed", is_flag=True, help="List the steps and what is there of them.")
def main(
    features: str,
    expression: Path,
    folder: Path,
    model: str | None,
    only: str,
    kinds: str,
    members: int,
    resamples: int,
    listed: bool,
) -> None:
    """Compare models on the same split and features."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    plan = make_plan(features, expression, kinds, model, members)
    if listed:
        for job in jobs_of(plan):
            there = path_of(folder, job.name, job.settings).exists()
            click.echo(f"{'there  ' if there else 'missing'}  {job.name}")
        return
    beside = source_beside(expression)
    steps = tuple(step for step in only.split(",") if step)
    click.echo(
        run(
            plan,
            folder,
            steps,
            sources=read_sources(beside) if beside.exists() else {},
            resamples=resamples,
        )
    )


if __name__ == "__main__":
    try:
        main()
    except dz.DecodeZooError as error:
        raise SystemExit(f"accuracy: {error}") from None
