"""Large COCO files: annotations are parsed one by one and kept as text, not as objects.

COCO's own training file has 860 000 annotations. As Python objects they take several gigabytes, as
text half of one; and text can be passed on to another file as it stands. No torch.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s4m_pipeline.data.formats.coco.writer import write_text
from s4m_pipeline.errors import UsageError
from s4m_pipeline.strict_json import DECODER, JsonError, json_error, read_json, repeated, text_of

SPACE = re.compile(r"[ \t\n\r]*")
Visit = Callable[[int, Any], None]
"""Called with an annotation's place in the file and its parsed entry."""


class CocoText:
    """A COCO file, its annotations as text.

    Args:
        source: The file.
        visit: Called for each annotation in turn; the parsed annotation is not kept.

    Attributes:
        source: The file.
        images: The entries under ``images``, parsed.
        other: The file's other entries, parsed, without the annotations.
        has_annotations: Whether the file has an entry ``annotations``, of whatever kind.
        count: Number of annotations.

    Raises:
        UsageError: The file is missing, unreadable, not JSON, or not COCO.
    """

    def __init__(self, source: Path, visit: Visit | None = None) -> None:
        self.source = source
        self._text = _read(source)
        self._starts, self._ends = array("q"), array("q")
        self.has_annotations = False
        try:
            entries = self._scan(visit)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{source}: {json_error(error)}") from error
        images = entries.pop("images", None)
        if not isinstance(images, list):
            raise UsageError(f"{source}: not a COCO file (no list under 'images')")
        self.images: list[Any] = images
        self.other = entries

    @property
    def count(self) -> int:
        """Number of annotations."""
        return len(self._starts)

    def annotation(self, place: int) -> str:
        """The annotation at a place in the file, as its JSON text."""
        return self._text[self._starts[place] : self._ends[place]]

    def write(
        self,
        path: Path,
        images: Sequence[Any],
        places: Iterable[int],
        changed: Mapping[int, str] | None = None,
    ) -> None:
        """Write a part of the file as a COCO file of its own, complete or not at all.

        Args:
            path: The new file; its folder is made when missing.
            images: The image entries it has.
            places: Places of the annotations it has.
            changed: By place, the text of annotations that are written otherwise.

        Raises:
            UsageError: It cannot be written.
        """
        write_text(path, self._parts(images, places, changed or {}))

    def _parts(
        self, images: Sequence[Any], places: Iterable[int], changed: Mapping[int, str]
    ) -> Iterator[str]:
        """The text of a file with some of the images and annotations, piece by piece."""
        head = json.dumps({**self.other, "images": list(images)}, ensure_ascii=False)
        yield f'{head[:-1]}, "annotations": ['
        separator = "\n"
        for place in places:
            yield separator + changed.get(place, self.annotation(place))
            separator = ",\n"
        yield "]}\n"

    def _scan(self, visit: Visit | None) -> dict[str, Any]:
        """Walk through the outermost object; annotations are marked, the rest is parsed."""
        text, decode = self._text, DECODER.raw_decode
        entries: dict[str, Any] = {}
        position = self._skip(0)
        if text[position : position + 1] != "{":
            read_json(text)  # says what is wrong with it, if anything
            raise UsageError(f"{self.source}: not a COCO file (its JSON is not an object)")
        position = self._skip(position + 1)
        more = text[position : position + 1] != "}"
        while more:
            key, position = decode(text, position)
            if not isinstance(key, str):
                raise json.JSONDecodeError("Expecting a key in double quotes", text, position)
            if key in entries or (key == "annotations" and self.has_annotations):
                raise repeated(key, "the file's outermost object")
            position = self._skip(self._expect(":", self._skip(position)))
            self.has_annotations |= key == "annotations"
            if key == "annotations" and text[position : position + 1] == "[":
                position = self._scan_annotations(position, visit)
            else:
                entries[key], position = decode(text, position)
            position, more = self._next(position, "}")
        end = self._skip(self._expect("}", position))
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
        return entries

    def _scan_annotations(self, position: int, visit: Visit | None) -> int:
        decode = DECODER.raw_decode
        position = self._skip(position + 1)
        more = self._text[position : position + 1] != "]"
        while more:
            entry, end = decode(self._text, position)
            self._starts.append(position)
            self._ends.append(end)
            if visit is not None:
                visit(len(self._starts) - 1, entry)
            position, more = self._next(end, "]")
        return self._expect("]", position)

    def _next(self, position: int, close: str) -> tuple[int, bool]:
        """Step to the next entry after one that ends at ``position``; and whether there is one."""
        position = self._skip(position)
        if self._text[position : position + 1] == close:
            return position, False
        return self._skip(self._expect(",", position)), True

    def _skip(self, position: int) -> int:
        space = SPACE.match(self._text, position)
        return position if space is None else space.end()

    def _expect(self, character: str, position: int) -> int:
        if self._text[position : position + 1] != character:
            raise json.JSONDecodeError(f"Expecting '{character}'", self._text, position)
        return position + 1


def _read(source: Path) -> str:
    try:
        return text_of(source.read_bytes())
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from error
    except JsonError as error:
        raise UsageError(f"{source}: {error}") from error
