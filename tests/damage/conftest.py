"""The run whose files are damaged."""

from tests.damage.whole_run import everything

__all__ = ["everything"]
