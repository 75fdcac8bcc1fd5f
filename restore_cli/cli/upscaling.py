"""Network and factor of an upscale step where the user names none."""

from __future__ import annotations

from restore_cli.inference.factors import BETTER, FASTER, Repetition, scale_of, usual_network

DEFAULT_FACTOR = 2.0


def default_factor(weights: str | None) -> float:
    """Return the factor of the named weights, or 2. Raises WeightsError."""
    return DEFAULT_FACTOR if weights is None else scale_of(weights)


def default_network(device: str, factor: float | None, *, repeat: Repetition, videos: bool) -> str:
    """Return the faster network for videos and on a CPU, otherwise the better one.

    An hour of video would take the better network days. Only where `device` is "auto" and no
    videos are restored does it ask for a GPU, which loads torch.
    """
    return FASTER if videos else usual_network(device, factor, repeat=repeat)


def describe_default(network: str, *, videos: bool) -> str:
    """Return the message that names the default network and the other choice."""
    if network == BETTER:
        return f"using {BETTER} (GPU default); --model {FASTER} is faster"
    reason = "default for videos" if videos else "CPU default"
    return f"using {FASTER} ({reason}); --model {BETTER} is sharper"
