"""Registry, cache, mirrors, and the files themselves."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from decode_zoo import cache as contents
from decode_zoo.artifact import FileEntry
from decode_zoo.display import megabytes
from decode_zoo.doctor.check import Check, ok, problem, warning
from decode_zoo.download import WrongFileError, is_url, transfer
from decode_zoo.errors import ArtifactError, VerificationError
from decode_zoo.registries import kept_copy, registry_places
from decode_zoo.store import Store, needed_to_predict

__all__ = ["bundled_files", "cache", "cached_files", "free_space", "mirrors", "registry"]

_PATIENCE = 4.0  # seconds for all mirrors together
_SPARE = 100_000_000  # bytes
_ELSEWHERE = "Name a folder of your own in DECODE_ZOO_CACHE."


def registry(store: Store) -> Iterator[Check]:
    """Say what the registry lists, how much of it is here, and of what there are only copies."""
    artifacts = store.registry.artifacts
    absent = _absent(store)
    number = sum(len(artifact.files) for artifact in artifacts.values())
    found = f"{len(artifacts)} artifacts, {number} files, {number - len(absent)} here"
    if absent and not _lacking(store):
        found += ": enough to predict with any model"
    yield ok("registry", found, artifacts=sorted(artifacts), not_here=sorted(absent))
    for place in registry_places():
        if (kept := kept_copy(place, store.cache)) is None:
            continue
        name, facts = f"registry {place}", {"copy_of": kept.date, "stale": kept.stale}
        if kept.stale and not store.offline:
            yield warning(
                name,
                f"could not be refreshed; the copy of {kept.date} is used",
                "Check network, proxy and DECODE_ZOO_REGISTRY.",
                **facts,
            )
        else:
            yield ok(name, f"copy of {kept.date}", **facts)


def cache(store: Store) -> Iterator[Check]:
    """Look at the cache folder: whose it is, and who may write."""
    name, lacking = "cache", _lacking(store)
    try:
        folder = store.cache_folder()
    except ArtifactError as error:
        yield warning(name, error.message, str(error.remedy))
        return
    place = _nearest(folder)
    facts: dict[str, object] = {"folder": str(folder), "exists": place == folder}
    if not place.is_dir():
        yield problem(
            name, f"{folder} cannot be made: {place} is no folder", _ELSEWHERE, 3, **facts
        )
        return
    status = place.stat()
    writable = os.access(place, os.W_OK | os.X_OK)
    owner = _owner(status.st_uid, store.offline)
    facts |= {"writable": writable, "owner": owner, "mode": stat.filemode(status.st_mode)}
    found = f"{folder}, " + (
        f"of {owner}, {stat.filemode(status.st_mode)}"
        if place == folder
        else "made when it is first needed"
    )
    if not os.access(place, os.R_OK | os.X_OK):
        yield problem(name, f"{found}, cannot be read", _ELSEWHERE, 3, **facts)
    elif not writable and lacking:
        yield warning(
            name,
            f"{found}, cannot be written, and not every file that predictions need is here",
            f"{_ELSEWHERE} Or let its owner fetch the rest.",
            **facts,
        )
    elif not writable:
        yield ok(name, f"{found}, only read; every file that predictions need is here", **facts)
    elif place == folder and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        yield warning(
            name, f"{found}: everybody may exchange its files", f"chmod o-w '{folder}'", **facts
        )
    else:
        yield ok(name, f"{found}, writable", **facts)


def free_space(store: Store) -> Iterator[Check]:
    """Compare the space beside the cache with what is still to be fetched."""
    if store.cache is None:
        return
    free = shutil.disk_usage(_nearest(store.cache)).free
    wanted = sum(_absent(store).values())
    found = f"{free / 1e9:.1f} GB; {megabytes(wanted)} of the registry are not here"
    facts = {"free": free, "wanted": wanted}
    if free < wanted + _SPARE:
        yield warning("free space", found, f"decode-zoo cache clean, or: {_ELSEWHERE}", **facts)
    else:
        yield ok("free space", found, **facts)


def mirrors(store: Store) -> Iterator[Check]:
    """Ask each mirror for the smallest file that it should have."""
    lacking = _lacking(store)
    wanted = _wanted(store)
    if not wanted:
        absent = len(_absent(store))
        yield ok(
            "mirrors",
            f"none is configured; {absent} files of the registry are not here",
            "Name one in DECODE_ZOO_MIRRORS." if absent else None,
        )
        return
    answers = _ask(wanted, store.offline)
    reached = any(answer == "has" for answer, _ in answers.values())
    for mirror, (answer, said) in answers.items():
        name, remedy = f"mirror {mirror}", "Check network, proxy and DECODE_ZOO_MIRRORS."
        if answer in ("has", "skipped"):
            yield ok(name, said, answer=answer)
        elif lacking and not reached:
            found = f"{said}; no mirror answers, and not every file that predictions need is here"
            yield problem(name, found, remedy, 5 if answer == "wrong" else 3, answer=answer)
        else:
            yield warning(name, said, remedy, answer=answer)


def bundled_files(store: Store) -> Iterator[Check]:
    """Verify the files that came with the package."""
    name, good, bad, closed = "bundled files", 0, [], []
    if store.bundled is None:
        yield warning(
            name,
            "the package came without any; models must be fetched",
            f"Reinstall it, or: {store.way_to_get('ID')}",
            verified=0,
            damaged=[],
            unreadable=[],
        )
        return
    for artifact in store.registry.artifacts.values():
        for file in artifact.files:
            if (store.bundled / artifact.folder / file).is_file():
                try:
                    store.check(artifact.id, file)
                    good += 1
                except VerificationError:
                    bad.append(f"{artifact.folder}/{file}")
                except ArtifactError:
                    closed.append(str(store.bundled / artifact.folder / file))
    facts = {"folder": str(store.bundled), "verified": good, "damaged": bad, "unreadable": closed}
    if bad:
        yield problem(
            name,
            f"{good} verified in {store.bundled}, damaged: {', '.join(bad)}",
            "Restore them, or reinstall with: pip install --force-reinstall --no-deps decode-zoo",
            5,
            **facts,
        )
    elif closed:
        yield problem(
            name,
            f"{good} verified in {store.bundled}, cannot be read: {', '.join(closed)}",
            f"chmod a+r '{closed[0]}'",
            3,
            **facts,
        )
    else:
        yield ok(name, f"{good} verified in {store.bundled}", **facts)


def cached_files(store: Store) -> Iterator[Check]:
    """Verify what is in the cache, and look for what nobody can use there."""
    if store.cache is None:
        return
    files = contents.survey(store)
    count = Counter[str](file.state for file in files)
    facts = {state: count[state] for state in contents.STATES}
    bad = [f"{file.artifact}/{file.path.name}" for file in files if file.state == "damaged"]
    closed = [str(file.path) for file in files if file.state == "unreadable"]
    blocked = [str(file.path) for file in files if file.state == "in the way"]
    anew = (
        f"bring them again with: {store.way_to_get()}"
        if store.offline
        else "they are fetched again when they are needed"
    )
    name = "cached files"
    if bad:
        yield problem(
            name,
            f"{count['verified']} verified, damaged: {', '.join(bad)}",
            f"decode-zoo cache clean; {anew}",
            5,
            **facts,
        )
    elif closed:
        yield problem(
            name,
            f"{count['verified']} verified, cannot be read: {', '.join(closed)}",
            f"chmod a+r '{closed[0]}', or: {_ELSEWHERE}",
            3,
            **facts,
        )
    elif blocked:
        yield problem(
            name,
            f"{count['verified']} verified; a folder where a file should be: {', '.join(blocked)}",
            f"Remove the folder {blocked[0]}.",
            3,
            **facts,
        )
    else:
        yield ok(name, f"{count['verified']} verified", **facts)
    unfinished = [file for file in files if file.state == "unfinished"]
    unregistered = sorted({file.artifact for file in files if file.state == "unregistered"})
    found = (
        f"{count['unfinished']} unfinished downloads, {count['unregistered']} files of "
        "artifacts that no registry in use has"
    )
    if count["foreign"]:
        found += f"; {count['foreign']} things that decode-zoo did not make, left alone"
    stale = [file for file in files if file.state in ("unfinished", "unregistered")]
    size = sum(file.size for file in stale)
    listed = {"size": size, "files": [str(file.path) for file in stale]}
    remedies = ["decode-zoo cache clean"] if unfinished else []
    if unregistered:
        remedies.append(
            "Name their zoo in DECODE_ZOO_REGISTRY, or: decode-zoo cache clean "
            + " ".join(unregistered)
        )
    if remedies:
        yield warning("stale files", f"{found}: {megabytes(size)}", ". ".join(remedies), **listed)
    else:
        yield ok("stale files", found, **listed)


def _absent(store: Store) -> dict[str, int]:
    """Files of the registry that are not here, with their sizes."""
    return {
        f"{artifact.folder}/{name}": entry.size
        for artifact in store.registry.artifacts.values()
        for name, entry in artifact.files.items()
        if not store.has(artifact.id, name)
    }


def _lacking(store: Store) -> bool:
    """Tell whether some file that a prediction needs is not here."""
    return any(
        not store.has(artifact.id, name)
        for artifact in store.registry.artifacts.values()
        for name in needed_to_predict(artifact)
    )


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above that exists."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _owner(uid: int, offline: bool) -> str:
    try:
        import pwd

        # Whoever knows the names (nscd, LDAP) may be asked through a socket.
        return f"user {uid}" if offline else pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):  # Windows; a user that only the file server knows
        return f"user {uid}"


def _wanted(store: Store) -> dict[str, tuple[str, FileEntry]]:
    """For each mirror, the smallest file that it should have."""
    wanted: dict[str, tuple[str, FileEntry]] = {}
    files = [
        (artifact, *item)
        for artifact in store.registry.artifacts.values()
        for item in artifact.files.items()
    ]
    # The user's own mirrors need not have what another registry lists: that comes last.
    files.sort(key=lambda file: (file[0].id in store.registry.origins, file[2].size))
    for artifact, name, entry in files:
        for mirror in store.mirrors_of(artifact):
            wanted.setdefault(mirror, (f"{artifact.folder}/{name}", entry))
    return wanted


def _ask(wanted: Mapping[str, tuple[str, FileEntry]], offline: bool) -> dict[str, tuple[str, str]]:
    """Ask all mirrors at once; one that does not answer in time is not waited for.

    Returns
    -------
    dict
        For each, 'has', 'wrong', 'fails', 'silent', 'slow' or 'skipped', and the same in words.
    """
    answers = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def ask(mirror: str, target: Path, place: str, entry: FileEntry) -> None:
            def note(count: int) -> None:
                answers[mirror] = "slow", f"answers, but not all of {place} within {_PATIENCE:g} s"

            try:
                transfer(f"{mirror.rstrip('/')}/{place}", target, entry, note)
                answers[mirror] = "has", f"gives {place}, verified"
            except Exception as error:  # whatever happens is the finding
                kind = "wrong" if isinstance(error, WrongFileError) else "fails"
                answers[mirror] = kind, " ".join(str(error).split())[:300]

        threads = []
        for number, (mirror, (place, entry)) in enumerate(wanted.items()):
            if offline and is_url(mirror):
                answers[mirror] = "skipped", "not tried: DECODE_ZOO_OFFLINE is set"
                continue
            answers[mirror] = "silent", f"no answer within {_PATIENCE:g} s"
            arguments = (mirror, Path(folder) / str(number), place, entry)
            # Daemons: a server that never comes to an end must not keep this process alive.
            threads.append(threading.Thread(target=ask, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        return dict(answers)
