"""The kinds of damage that a file can take, each of which leaves other bytes in its place.

Times of change stay as they are where a file stays, as on a disk that fails.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FLIPS = 3
"""Places at which a bit of each file is flipped."""
ANOTHER = "somebody else's"

Damage = Callable[[Path, random.Random], None]


def flip(path: Path, draw: random.Random) -> None:
    """Flip one bit, somewhere; an empty file gets a byte."""
    content = bytearray(path.read_bytes()) or bytearray(1)
    place = draw.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    """Keep the beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(1, max(2, len(content)))])


def hole(path: Path, draw: random.Random) -> None:
    """Zeros over a block, as a file system leaves them whose journal was lost."""
    content = bytearray(path.read_bytes())
    block = max(1, min(4096, len(content) // 2))
    begin = draw.randrange(max(1, len(content) - block))
    zeros = bytes(block)
    same = content[begin : begin + block] == zeros
    content[begin : begin + block] = b"\xff" * block if same else zeros
    path.write_bytes(content)


def empty(path: Path, draw: random.Random) -> None:
    """Keep the name alone."""
    path.write_bytes(b"")


def delete(path: Path, draw: random.Random) -> None:
    """Keep nothing."""
    path.unlink()


def enlarge(path: Path, draw: random.Random) -> None:
    """Bytes behind the end."""
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, 5000)))


def to_folder(path: Path, draw: random.Random) -> None:
    """A folder of its name."""
    path.unlink()
    path.mkdir()


def to_link_to_another(path: Path, draw: random.Random) -> None:
    """A link to a file with another content, which nothing may change."""
    path.unlink()
    path.symlink_to(another_of(path))


def to_link_to_nothing(path: Path, draw: random.Random) -> None:
    """A link to a file that is not there."""
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


def another_of(path: Path) -> Path:
    """The file outside the work folder that links lead to."""
    work = next(folder for folder in path.parents if folder.name == "work")
    another = work.with_name("another file")
    if not another.exists():
        another.write_text(ANOTHER)
    return another


KINDS: dict[str, Damage] = {
    **{f"flipped {number}": flip for number in range(1, FLIPS + 1)},
    "cut": cut,
    "hole": hole,
    "emptied": empty,
    "deleted": delete,
    "enlarged": enlarge,
    "a folder": to_folder,
    "a link to another file": to_link_to_another,
    "a link to nothing": to_link_to_nothing,
}
"""Kinds of damage by their names."""


def damage(path: Path, kind: str) -> None:
    """Damage a file; where it is damaged depends on its name and the kind alone."""
    before, state = path.read_bytes(), path.stat()
    KINDS[kind](path, random.Random(f"{path.name} {kind}"))
    if path.is_file() and not path.is_symlink():
        if path.read_bytes() == before:
            raise ValueError(f"{path} is as it was")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@contextmanager
def damaged(path: Path, kind: str) -> Iterator[None]:
    """A damaged file, which is whole again afterwards."""
    content, state = path.read_bytes(), path.stat()
    try:
        damage(path, kind)
        yield
    finally:
        if path.is_symlink() or not path.is_file():
            remove(path)
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def remove(path: Path) -> None:
    """Remove whatever stands in a file's place, and nothing where nothing does."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
