"""Everything that can go wrong for a user, each with an exit code and a way out.

RestoreError
├── UsageError                2   options that contradict each other
│   └── MissingExtra          2   an optional package is not installed
├── InputError                3   a source that cannot be read
│   ├── UnreadableImage       3   truncated, empty, not an image, wrong contents
│   ├── UnreadableVideo       3   the same of a video, or it has no image
│   ├── ImageTooLarge         3   more pixels than the safety limit
│   ├── ImageTooSmall         3   too few pixels for what was asked
│   └── NothingToDo           3   no source matches
├── OutputError               3   a target that cannot be written
│   ├── OutputExists          3   and neither --overwrite nor --skip-existing was given
│   └── OutputCollision       3   two sources would write the same file
├── WeightsError              4   a weight file
│   ├── WeightsMissing        4   unknown name, or not on this machine
│   ├── WeightsCorrupt        4   checksum or contents are wrong
│   └── WeightsMismatch       4   does not fit the network or the task
├── FetchError                4   the network: unreachable, refused, or --offline
└── DeviceError               5   the device
    ├── DeviceMissing         5   no such device here
    ├── OutOfMemory           5   even the smallest tile does not fit
    └── BrokenOutput          5   the network produced NaN or infinity

Exit code 6 (some files of a batch failed) is no error of its own: each file carries its own.
"""


class RestoreError(Exception):
    """A failure that the user can understand and act on: what is wrong, and what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class name, as it stands in JSON output."""
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
