"""Metrics of the similarity of a restored image to its reference."""

from restore_cli.metrics.pixel import psnr
from restore_cli.metrics.protocol import PROTOCOLS, EvalProtocol, Means, Scores, means_of, measure
from restore_cli.metrics.structure import ms_ssim, ssim

__all__ = [
    "PROTOCOLS",
    "EvalProtocol",
    "Means",
    "Scores",
    "means_of",
    "measure",
    "ms_ssim",
    "psnr",
    "ssim",
]
