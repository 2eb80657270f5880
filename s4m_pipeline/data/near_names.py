"""Files that a missing one may be: other slashes, case, Unicode form or folder. Light."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


class NearNames:
    """The files below a folder, found by names that are nearly theirs; walked at the first use.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: dict[str, str] | None = None
        self._last: dict[str, str] = {}

    def hint(self, name: str) -> str:
        """What to say of a file that is missing: ``; there is one named ...``, or nothing."""
        found = self.find(name)
        return "" if found is None else f"; there is one named {found}"

    def find(self, name: str) -> str | None:
        """The name, relative to the folder, of the file that is nearly so named; None without one.

        A file of the same name in the same folders comes before one in another folder.
        """
        whole = self._walked()
        key = _plain(name)
        if key in whole:
            return whole[key]
        relative = _plain(os.path.relpath(name, self._folder)) if os.path.isabs(name) else key
        return whole.get(relative) or self._last.get(key.rpartition("/")[2])

    def _walked(self) -> dict[str, str]:
        if self._whole is None:
            self._whole = {}
            for parent, folders, files in os.walk(self._folder):
                folders.sort()
                for file in sorted(files):
                    found = os.path.relpath(os.path.join(parent, file), self._folder)
                    self._whole.setdefault(_plain(found), found)
                    self._last.setdefault(_plain(file), found)
        return self._whole


def _plain(name: str) -> str:
    """A name without what programs write differently: slashes, case, Unicode form."""
    plain = unicodedata.normalize("NFC", name).casefold().replace("\\", "/")
    return os.path.normpath(plain).strip("/")
