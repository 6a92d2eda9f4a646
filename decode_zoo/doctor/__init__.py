"""Is this installation healthy: versions, back ends, threads, cache, mirrors, files.

Nothing is changed, and nothing fetched but what `Store.default` reads. A check that breaks is
reported as a problem of its own. What decode-zoo needs is imported inside the checks, so that a
package that is missing is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from decode_zoo.doctor import installation, machine
from decode_zoo.doctor.check import Check, broken, exit_code, summary

if TYPE_CHECKING:
    from decode_zoo.store import Store

__all__ = ["Check", "examine", "exit_code", "summary"]


def examine(store: Store | None = None) -> list[Check]:
    """Run every check.

    Parameters
    ----------
    store : Store, optional
        That of this installation and environment if not given.

    Returns
    -------
    list of Check
        In a fixed order; those that need the registry are left out if it cannot be read, which
        then is a problem itself.
    """
    done: list[Check] = []

    def run(name: str, check: Callable[[], Iterable[Check]]) -> None:
        try:
            done.extend(check())
        except Exception as error:
            done.append(broken(name, error))

    run("versions", installation.versions)
    run("packages", installation.packages)
    run("onnxruntime", installation.onnxruntime)
    run("threads", machine.threads)
    run("environment", machine.environment)
    try:
        from decode_zoo.doctor import storage
        from decode_zoo.store import Store

        store = Store.default() if store is None else store
    except Exception as error:
        return [*done, broken("registry", error)]
    run("registry", partial(storage.registry, store))
    run("cache", partial(storage.cache, store))
    run("free space", partial(storage.free_space, store))
    run("mirrors", partial(storage.mirrors, store))
    run("bundled files", partial(storage.bundled_files, store))
    run("cached files", partial(storage.cached_files, store))
    run("known answers", partial(_known_answers, store))
    return done


def _known_answers(store: Store) -> Iterator[Check]:
    from decode_zoo.doctor.answers import known_answers

    yield from known_answers(store)
