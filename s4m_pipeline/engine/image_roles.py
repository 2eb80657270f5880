"""A picture has one role in a run: what of the unlabelled images is labelled or for validation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from s4m_pipeline.config_data import DataSection, LabelledSet, UnlabelledSet
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.data.same_files import resolved_names
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import escaped

Names = Callable[[LabelledSet | UnlabelledSet], list[str]]


class ImageRoles:
    """The roles of a run's images, compared by their resolved paths.

    Args:
        data: The run's data section, with unlabelled images.
        names_of: Lists the names of a set's images.
        warn: Tells the user what may be wrong.
    """

    def __init__(self, data: DataSection, names_of: Names, warn: Callable[[str], None]) -> None:
        self._data = data
        self._names_of = names_of
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
        trained_on, paths = set(self._paths(self._data.labelled).values()), self._paths(section)
        shared = sorted(name for name, path in paths.items() if path in trained_on)
        if shared:
            self._warn(
                f"data.validation: {len(shared)} of {len(paths)} images are labelled images as "
                f"well, the first is {escaped(shared[0])}: figures on them say little"
            )

    @cached_property
    def _other_roles(self) -> dict[str, str]:
        """The names of unlabelled images that are left out, with the role that each has."""
        section = self._data.unlabelled
        if section is None:
            return {}
        paths = self._paths(section)
        roles: dict[str, str] = {}
        others = {} if section.include_labelled else {"labelled": self._data.labelled}
        if self._data.validation is not None:
            others["validation"] = self._data.validation
        for role, other in others.items():
            taken = set(self._paths(other).values())
            roles |= {name: role for name, path in paths.items() if path in taken}
        return roles

    def _paths(self, section: LabelledSet | UnlabelledSet) -> dict[str, str]:
        """The resolved path of each image of a set, by name."""
        return resolved_names(section.images, self._names_of(section))
