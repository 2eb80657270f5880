"""What the system refuses, told to the user: memory, full disks, missing permissions.

Libraries say such things in many words, often without the path. Here they are recognised, without
loading any of these libraries, and the path and what is needed are named.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from s4m_pipeline.errors import S4MError, UsageError, is_out_of_memory
from s4m_pipeline.wording import human_bytes

TOO_LARGE = (
    "Memory ran out. Lower batch_size (in the stage's section or in segmenter), or the size of\n"
    "the images (segmenter.image_size, or the scale in the model's config)."
)
LITTLE = 1_000_000
"""A disk with fewer bytes left than this may be the one that is full."""
SHARED_MEMORY = Path("/dev/shm")

_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)
_FULL = re.compile(r"No space left on device|Disk quota exceeded|[Ee]rrno (28|122)\b")
_TORCH_WRITES = re.compile(r"inline_container|PytorchStreamWriter|basic_ios::clear")
"""In errors of torch's writer of files, which keeps the reason to itself."""
_SHARED = re.compile(r"</?torch_|shared memory|\(shm\)|/dev/shm|Bus error")
"""In errors of PyTorch's data loading processes, which hand over batches in shared memory."""
_KILLED = re.compile(
    r"DataLoader worker \(pid.*\) (is killed by signal: (Kill|Bus)|exited unexpectedly)"
)
_LINKS_IN_A_CIRCLE = re.compile(r"Symlink loop from '(.*)'", re.DOTALL)
"""What ``Path.resolve`` says until Python 3.13, as a RuntimeError."""


def told(
    error: BaseException, places: Iterable[Path] = (), surely: Path | None = None
) -> S4MError | None:
    """An error of the system in words for the user.

    Args:
        error: What was raised.
        places: Where the work may have been writing, for errors that name no path. The first one
            on a full disk is taken.
        surely: Where it was writing, if that is known: taken where no disk looks full, as with a
            quota.

    Returns:
        The error to report in its place; None where it is of another kind.
    """
    text = str(error)
    ended = next((word for word in _words_behind(error) if _KILLED.search(word)), "")
    if isinstance(error, S4MError) and not ended:
        return None
    if _SHARED.search(ended or text) and (_FULL.search(text) or ended):
        return _shared_memory_is_full()
    if ended:
        return S4MError(
            "A process that loads data was killed, perhaps for lack of memory.\n"
            "Lower workers in the training's section; 0 loads in the training's own process."
        )
    if is_out_of_memory(error):
        line = (text.splitlines() or [""])[0]
        return S4MError(f"{type(error).__name__}: {line}\n{TOO_LARGE}")
    if isinstance(error, PermissionError) and error.filename is not None:
        return UsageError(_permission(Path(os.fsdecode(error.filename)), str(error.strerror)))
    if isinstance(error, OSError) and error.errno == errno.EROFS and error.filename is not None:
        path = os.fsdecode(error.filename)
        return S4MError(
            f"{path}: {error.strerror}.\nGive a work_dir, or a file to write, elsewhere."
        )
    if isinstance(error, RuntimeError) and (circle := _LINKS_IN_A_CIRCLE.fullmatch(text)):
        return UsageError(f"{circle[1]}: {os.strerror(errno.ELOOP)}")
    return _disk_is_full(error, places, surely)


def full_disk(error: OSError, path: Path) -> S4MError | None:
    """What to tell of a file that a full disk does not take; None where it is not that.

    Args:
        error: What writing the file, under this name or that of a part of it, has raised.
        path: The file, as the user knows it.
    """
    if error.errno not in _FULL_CODES:
        return None
    return told(OSError(error.errno, os.strerror(error.errno), str(path)))


def _words_behind(error: BaseException) -> Iterator[str]:
    """What an error and those that it came from say.

    PyTorch tells of a killed process by an error in the midst of whatever is being done, where some
    library may take it for one of its own and raise another in its place.
    """
    seen: list[BaseException] = []
    behind: BaseException | None = error
    while behind is not None and behind not in seen:
        seen.append(behind)
        yield str(behind)
        behind = behind.__cause__ or behind.__context__


@contextmanager
def telling(*places: Path) -> Iterator[None]:
    """Raise what the system refuses as `told` tells it; all else as it is.

    Args:
        *places: Where the work writes, most of it in the first of them.
    """
    try:
        yield
    except Exception as error:
        message = told(error, places, next(iter(places), None))
        if message is None:
            raise
        raise message from error


def _disk_is_full(
    error: BaseException, places: Iterable[Path], surely: Path | None
) -> S4MError | None:
    code = error.errno if isinstance(error, OSError) else None
    if code not in _FULL_CODES and not _FULL.search(str(error)):
        if not isinstance(error, RuntimeError) or not _TORCH_WRITES.search(str(error)):
            return None
        places = [place for place in places if _is_full(place)]
        if not places:
            return None
    named = getattr(error, "filename", None)
    place = Path(os.fsdecode(named)) if named else next(filter(_is_full, places), surely)
    what = os.strerror(errno.EDQUOT if code == errno.EDQUOT else errno.ENOSPC)
    if place is None:
        return S4MError(f"{what}.\nFree some space, then run it again.")
    return S4MError(f"{place}: {what}{_space(place)}.\nFree some space there, then run it again.")


def _shared_memory_is_full() -> S4MError:
    return S4MError(
        f"{SHARED_MEMORY}: {os.strerror(errno.ENOSPC)}{_space(SHARED_MEMORY)}; processes that load "
        "data hand over batches there.\n"
        "Enlarge it (docker run --shm-size=8g), or set workers: 0 in the training's section."
    )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = Path(os.path.abspath(path))
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _is_full(place: Path) -> bool:
    try:
        state = os.statvfs(_existing(place))
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < LITTLE or _lacks_entries(state)


def _lacks_entries(state: os.statvfs_result) -> bool:
    """Whether a file system has room for bytes, but for no other file."""
    return state.f_files > 0 and state.f_favail == 0


def _space(place: Path) -> str:
    """In brackets, how much is left where a path is; nothing where that is not known."""
    try:
        state = os.statvfs(_existing(place))
    except OSError:
        return ""
    if _lacks_entries(state):
        return f" (no file more, {state.f_files:,} are there)"
    free, size = (human_bytes(n * state.f_frsize) for n in (state.f_bavail, state.f_blocks))
    return f" ({free} left of {size})"


def _permission(path: Path, why: str) -> str:
    """Which permission is missing, and whose it is to give."""
    there, wanted = _existing(path), Path(os.path.abspath(path))
    rights = {"read": os.R_OK, "write": os.W_OK}
    if there != wanted:  # to be made, or out of sight
        rights = {"enter": os.X_OK, "write": os.W_OK}
    elif there.is_dir():
        rights = {"read": os.R_OK, "enter": os.X_OK, "write": os.W_OK}
    lacking = [word for word, right in rights.items() if not os.access(there, right)]
    if there == wanted:
        lacking = lacking[:1]  # what else is lacking need not be wanted
    if not lacking:
        return f"{path}: {why}"
    state = there.stat()
    return (
        f"{path}: {why}\n{_user(os.geteuid())} needs the right to {' and '.join(lacking)} {there}, "
        f"which is {_user(state.st_uid)}'s ({stat.filemode(state.st_mode)})"
    )


def _user(number: int) -> str:
    import pwd  # late: for this message alone

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
