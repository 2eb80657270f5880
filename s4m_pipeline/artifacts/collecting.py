"""Which folders of a work folder nothing needs any more, and how one of them is removed.

Nothing is removed that is not provably an artifact of this work folder: it lies where a stage's
artifact of its fingerprint lies, and its manifest, or the request that it was begun with, names
the same stage and fingerprint.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.durable import sync_folder
from s4m_pipeline.artifacts.fingerprint import fingerprint, is_fingerprint
from s4m_pipeline.artifacts.leftovers import strays
from s4m_pipeline.artifacts.manifest import MANIFEST
from s4m_pipeline.artifacts.plain_files import read_plain
from s4m_pipeline.artifacts.store import LATEST, REPLACED, REQUEST, Store
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.strict_json import read_json

_SET_ASIDE = re.compile(r"([0-9a-f]{16})-\d+")


@dataclass(frozen=True, slots=True)
class Leftover:
    """An artifact that nothing needs, or a file that a killed process had not finished.

    Attributes:
        path: The artifact's folder, a link in its place, or the file.
        stage: The artifact's stage; empty for a file.
        fingerprint: Its fingerprint.
        why_kept: Why it is left alone; empty where it can be removed.
    """

    path: Path
    stage: str = ""
    fingerprint: str = ""
    why_kept: str = ""


def leftovers(store: Store, stages: Collection[str]) -> list[Leftover]:
    """What nothing needs: replaced, unfinished or superseded artifacts, and unfinished files.

    Needed are each stage's latest artifacts, what another process is making, and what either was
    made of.

    Args:
        store: The artifacts.
        stages: The stages that there are; other folders are not looked at.
    """
    kept = needed(store, stages)
    found = []
    for stage in sorted(stages):
        folder = store.work_dir / stage
        if folder.is_symlink():
            if folder.is_dir():
                found.append(Leftover(folder, stage, why_kept="a link, which is not followed"))
            continue
        for path, name in _places(folder):
            if name in kept and path.name == name:
                continue
            if not store.is_being_made(stage, name):
                found.append(Leftover(path, stage, name, _doubt(path, stage, name)))
    return found + [Leftover(path) for path in strays(store.work_dir, stages)]


def needed(store: Store, stages: Collection[str]) -> set[str]:
    """Fingerprints of the artifacts that are looked at or worked on, and of all they are made of.

    Where a stage's pointer names nothing that is there, all that the stage has finished is needed.
    Where one of them does not say any more what it was made of, everything is.
    """
    inputs: dict[str, set[str]] = {}
    unknown: set[str] = set()
    wanted: set[str] = set()
    pointed = pointed_at(store)
    for stage, name, done in store.artifacts():
        if stage not in stages:
            continue
        made_for = store.requested(stage, name)
        made_of = made_for.get("inputs", {})
        inputs[name] = inputs.get(name, set()) | set(map(str, made_of.values()))
        if not made_for:
            unknown.add(name)
        lost_pointer = done and not any(
            store.is_complete(stage, one) for one in pointed.get(stage, ())
        )
        if lost_pointer or (not done and store.is_being_made(stage, name)):
            wanted.add(name)
    pending = [*wanted, *(name for names in pointed.values() for name in names)]
    kept: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in kept:
            kept.add(name)
            pending += inputs.get(name, ())
    return kept | inputs.keys() if kept & unknown else kept


def remove(store: Store, leftover: Leftover) -> None:
    """Delete an artifact, so that at no time half of one lies where a whole one would.

    Raises:
        S4MError: Another process has begun to make it, or it is no longer what it was.
    """
    path = leftover.path
    if not leftover.fingerprint:
        path.unlink(missing_ok=True)
        return
    with store.lock(leftover.stage, leftover.fingerprint):
        if path.is_symlink():
            path.unlink()
            return
        if _doubt(path, leftover.stage, leftover.fingerprint):
            raise S4MError(f"{path}: it changed in the meantime and is left alone")
        if path.parent.name != REPLACED:
            path = store.set_aside(leftover.stage, leftover.fingerprint)
    _delete(path)


def set_aside(folder: Path, stages: Collection[str]) -> Path:
    """Move an artifact out of the way, so that its command makes it anew; ``gc`` removes it.

    It may be damaged, its manifest as well.

    Args:
        folder: The artifact's.
        stages: The stages that there are.

    Returns:
        Where it is now.

    Raises:
        UsageError: The folder is no artifact of a work folder, or a link.
        S4MError: Another process is making it.
    """
    place = Path(os.path.abspath(folder))
    stage, name = place.parent.name, place.name
    if place.is_symlink() or place.parent.is_symlink():
        raise UsageError(f"{folder}: a link, which is not followed")
    is_ours = any((place / file).is_file() for file in (MANIFEST, REQUEST))
    if stage not in stages or not is_fingerprint(name) or not is_ours:
        raise UsageError(f"{folder}: no artifact (WORK_DIR/STAGE/FINGERPRINT)")
    store = Store(place.parent.parent)
    with store.lock(stage, name):
        return store.set_aside(stage, name)


def _delete(folder: Path) -> None:
    """Delete a folder that was set aside; what says that it is ours goes last."""
    for path in folder.iterdir():
        if path.name in (MANIFEST, REQUEST):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder)
    sync_folder(folder.parent)


def _places(folder: Path) -> Iterator[tuple[Path, str]]:
    """Where artifacts of a stage may lie, with their fingerprints; set aside ones come last."""
    for path in _entries(folder):
        if is_fingerprint(path.name):
            yield path, path.name
    if not (folder / REPLACED).is_symlink():
        for path in _entries(folder / REPLACED):
            if match := _SET_ASIDE.fullmatch(path.name):
                yield path, match[1]


def _entries(folder: Path) -> list[Path]:
    """Folders and links in a folder, by time."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_symlink() or path.is_dir()]
    return sorted(found, key=lambda path: (path.lstat().st_mtime_ns, path.name))


def _doubt(path: Path, stage: str, name: str) -> str:
    """Why a folder is not provably an artifact; empty where it is one, a link, or set aside empty.

    The last is what a removal leaves that was stopped at its very end.
    """
    if path.is_symlink() or (stage, name) in _named(path):
        return ""
    if path.parent.name == REPLACED and not any(path.iterdir()):
        return ""
    return f"neither its {MANIFEST} nor its {REQUEST} says that it is {stage} {name}"


def _named(folder: Path) -> Iterator[tuple[Any, Any]]:
    """The stages and fingerprints that a folder's own files name."""
    for file in (MANIFEST, REQUEST):
        try:
            data = read_json(read_plain(folder / file))
            name = data.get("fingerprint")
            if file == REQUEST and name is None:  # as earlier versions wrote it
                name = fingerprint(data["stage"], data["config"], data["inputs"])
            yield data["stage"], name
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue


def pointed_at(store: Store) -> dict[str, set[str]]:
    """What the pointers of each stage name."""
    pointed: dict[str, set[str]] = {}
    for path in store.work_dir.glob(f"*/{LATEST}*"):
        try:
            pointed.setdefault(path.parent.name, set()).add(read_plain(path).decode().strip())
        except (OSError, ValueError):
            continue
    return pointed
