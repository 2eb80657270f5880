"""The few kinds of error a user can meet, each with its exit code.

Exit codes of every command: 0 done; 1 failed; 2 wrong use or configuration; 3 an artifact that is
stale, damaged or of another format version; 4 done, but images were set aside; 130 interrupted.
"""

DONE = 0
FAILED = 1
WRONG_USE = 2
BAD_ARTIFACT = 3
SET_ASIDE = 4
INTERRUPTED = 130


class S4MError(Exception):
    """A failure whose message (one to three lines) is meant for the user."""

    exit_code = FAILED


class UsageError(S4MError):
    """Wrong use, a wrong configuration, or input data that cannot be used."""

    exit_code = WRONG_USE


class ArtifactError(S4MError):
    """An artifact that is stale, damaged or of another format version."""

    exit_code = BAD_ARTIFACT
