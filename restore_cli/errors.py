"""Errors for the user, each with an exit code, a message and a hint.

RestoreError
├── UsageError                2   options that contradict each other
│   └── MissingExtra          2   an optional package is not installed
├── InputError                3   a source that cannot be read
│   ├── UnreadableImage       3   empty, truncated, damaged, or not an image
│   ├── UnreadableVideo       3   empty, truncated, damaged, or not a video
│   ├── ImageTooLarge         3   more pixels than the limit
│   ├── ImageTooSmall         3   too few pixels for the operation
│   └── NothingToDo           3   no source matches
├── OutputError               3   a target that cannot be written
│   ├── OutputExists          3   it exists, without --overwrite or --skip-existing
│   └── OutputCollision       3   it is a source, or the target of another source
├── WeightsError              4   a weight file
│   ├── WeightsMissing        4   unknown name, or not on this machine
│   ├── WeightsCorrupt        4   checksum or contents are wrong
│   └── WeightsMismatch       4   not for this network or task
├── FetchError                4   a download or a store: unreachable, refused, or offline
└── DeviceError               5   a device failed
    ├── DeviceMissing         5   no such device
    ├── OutOfMemory           5   memory has run out, even with the smallest tile
    └── BrokenOutput          5   the network produced NaN or infinity

Exit code 6 (some files of a batch failed) has no class: each file has an error of its own.
"""

import re

SOME_FAILED = 6  # exit code where some files of a batch failed, each with an error of its own
HIDDEN = "***"
# A URL, perhaps with one slash as paths have it, with a login or a query, which may be signed. A
# password may have a slash in it.
URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+:/{1,2})(?=[^/\s])"
    r"(?P<login>[^/\s@]*@|[^/\s@:]+:[^\s@]*@)?(?P<place>[^\s?]*)(?P<query>\?[^\s'\"]+)?"
)


def without_secrets(text: str) -> str:
    """Return a text with *** for the logins and queries of URLs."""

    def hidden(url: re.Match[str]) -> str:
        login = f"{HIDDEN}@" if url["login"] else ""
        query = f"?{HIDDEN}" if url["query"] else ""
        return f"{url['scheme']}{login}{url['place']}{query}"

    return URL.sub(hidden, text)


class RestoreError(Exception):
    """A failure with a message for the user and, if possible, a hint how to resolve it.

    Both are without the secrets of URLs.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        self.message = without_secrets(message)
        self.hint = None if hint is None else without_secrets(hint)
        super().__init__(self.message)

    @property
    def kind(self) -> str:
        """Return the class name, as in JSON output."""
        return type(self).__name__


class UsageError(RestoreError):
    exit_code = 2


class MissingExtra(UsageError):
    pass


class InputError(RestoreError):
    exit_code = 3


class UnreadableImage(InputError):
    pass


class UnreadableVideo(InputError):
    pass


class ImageTooLarge(InputError):
    pass


class ImageTooSmall(InputError):
    pass


class NothingToDo(InputError):
    pass


class OutputError(RestoreError):
    exit_code = 3


class OutputExists(OutputError):
    pass


class OutputCollision(OutputError):
    pass


class WeightsError(RestoreError):
    exit_code = 4


class WeightsMissing(WeightsError):
    pass


class WeightsCorrupt(WeightsError):
    pass


class WeightsMismatch(WeightsError):
    pass


class FetchError(RestoreError):
    exit_code = 4


class DeviceError(RestoreError):
    exit_code = 5


class DeviceMissing(DeviceError):
    pass


class OutOfMemory(DeviceError):
    pass


class BrokenOutput(DeviceError):
    pass
