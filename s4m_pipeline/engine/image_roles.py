"""A picture has one role in a run: what of the unlabelled images is labelled or for validation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import contents_of
from s4m_pipeline.config_data import DataSection, LabelledSet, UnlabelledSet
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.data.same_files import resolved_names
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import escaped

Marks = dict[str, tuple[str, str | None]]
Names = Callable[[LabelledSet | UnlabelledSet], list[str]]


class ImageRoles:
    """The roles of a run's images: the same resolved path, or the same bytes under another name.

    Fingerprints hold the contents of all sets, so comparing them reads no file a second time.

    Args:
        data: The run's data section, with unlabelled images.
        names_of: Lists the names of a set's images.
        facts: What is known of the images' files.
        warn: Tells the user what may be wrong.
    """

    def __init__(
        self, data: DataSection, names_of: Names, facts: FileFacts, warn: Callable[[str], None]
    ) -> None:
        self._data = data
        self._names_of = names_of
        self._facts = facts
        self._warn = warn

    def left_out(self) -> list[str]:
        """The names, sorted and as people read them, of unlabelled images that are left out."""
        return sorted(escaped(name) for name in self._other_roles)

    def unlabelled_alone(self, unlabelled: ImageSet, section: UnlabelledSet) -> ImageSet:
        """The set without images that have another role in the run, which is told.

        Raises:
            UsageError: None is left.
        """
        others, count = self._other_roles, len(unlabelled.images)
        for role, advice in (
            ("validation", ""),
            ("labelled", " (data.unlabelled.include_labelled: true takes them)"),
        ):
            names = sorted(name for name, other in others.items() if other == role)
            if names:
                self._warn(
                    f"data.unlabelled: {len(names)} of {count} images are {role} images, the first "
                    f"is {escaped(names[0])}: left out{advice}"
                )
        files = {section.images / name for name in others}  # unlike names, paths are not escaped
        rest = unlabelled.without([image.id for image in unlabelled.images if image.path in files])
        if not rest.images:
            raise UsageError(
                f"data.unlabelled: all {count} images are labelled or validation images as well, "
                "none is left.\n"
                "Give other images, or data.unlabelled.include_labelled: true for labelled ones."
            )
        return rest

    def warn_of_shared(self) -> None:
        """Warn of validation images that are trained on: figures on them say little."""
        section = self._data.validation
        if section is None:
            return
        marks = self._marks(section)
        shared = sorted(_also_in(self._marks(self._data.labelled), marks))
        if shared:
            self._warn(
                f"data.validation: {len(shared)} of {len(marks)} images are labelled images as "
                f"well, the first is {escaped(shared[0])}: figures on them say little"
            )

    @cached_property
    def _other_roles(self) -> dict[str, str]:
        """The names of unlabelled images that are left out, with the role that each has."""
        section = self._data.unlabelled
        if section is None:
            return {}
        marks = self._marks(section)
        roles: dict[str, str] = {}
        others = {} if section.include_labelled else {"labelled": self._data.labelled}
        if self._data.validation is not None:
            others["validation"] = self._data.validation
        for role, other in others.items():
            roles |= dict.fromkeys(_also_in(self._marks(other), marks), role)
        return roles

    def _marks(self, section: LabelledSet | UnlabelledSet) -> Marks:
        """By name, what tells each picture of a set: its resolved path, and its content's digest.

        A file that is missing or cannot be read has no content.
        """
        names = list(self._names_of(section))
        paths = resolved_names(section.images, names)
        contents = contents_of(section.images, names, self._facts)
        return {n: (paths[n], content) for n, content in zip(names, contents, strict=True)}


def _also_in(others: Marks, marks: Marks) -> list[str]:
    """The names whose picture is among the others too."""
    paths = {path for path, _ in others.values()}
    contents = {content for _, content in others.values() if content is not None}
    return [n for n, (path, content) in marks.items() if path in paths or content in contents]
