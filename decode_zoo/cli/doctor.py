"""``decode-zoo doctor``: is this installation healthy."""

from __future__ import annotations

import json
import textwrap

import click

from decode_zoo.errors import DecodeZooError

__all__ = ["doctor"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Examine this installation: versions, back ends, threads, cache, mirrors, files.

    Every installed back end recomputes the default model's known answers. Nothing is changed,
    nothing fetched but the registries in DECODE_ZOO_REGISTRY; passwords in URLs are not printed.

    Exit codes: 0 healthy (warnings allowed), else that of the worst problem, in this order: 5 a
    file or an answer is wrong, 6 there is a GPU and it cannot be used, 3 the cache, a mirror or
    the default model cannot be had, 4 the registry is not valid, 2 packages do not fit together,
    1 a check broke.
    """
    import decode_zoo
    from decode_zoo.doctor import examine, exit_code, summary

    checks = examine()
    code, verdict = exit_code(checks), summary(checks)
    if as_json:
        document = {
            "format_version": 1,
            "decode_zoo": decode_zoo.__version__,
            "healthy": code == 0,
            "exit_code": code,
            "summary": verdict,
            "checks": [check.as_json() for check in checks],
        }
        click.echo(json.dumps(document, indent=1))
    else:
        wide = max(len(check.name) for check in checks if len(check.name) <= 24)
        margin = " " * (len("problem  ") + wide + 2)
        for check in checks:
            head = f"{check.state:9}{check.name:{wide}}  "
            if len(check.name) > wide:  # a mirror's URL has a line of its own
                head = f"{head.rstrip()}\n{margin}"
            click.echo(head + _filled(check.found, margin))
            if check.remedy and check.state != "ok":
                click.echo(f"{margin}-> {_filled(check.remedy, margin + '   ')}")
        if code == 0:
            click.echo(verdict)
    if code:
        error = DecodeZooError(verdict)
        error.exit_code = code
        raise error


def _filled(text: str, margin: str) -> str:
    """Break a text into lines that stand under each other."""
    lines = textwrap.wrap(
        text, max(40, 110 - len(margin)), break_long_words=False, break_on_hyphens=False
    )
    return f"\n{margin}".join(lines)
