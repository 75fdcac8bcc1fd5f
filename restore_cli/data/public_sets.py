"""Table of the public test sets, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from restore_cli.tasks import TaskName


@dataclass(frozen=True)
class PublicSet:
    """Public test set that papers measure on."""

    name: str
    task: TaskName
    source: str  # project, commit and folder
    licence: str
    layout: str  # folders of its files
    inside: str = "."  # subfolder of the pairs
    parts: tuple[str, ...] = ()  # prefixes of file names, if the set consists of several
    sigma: float | None = None  # of the noise added to its clean images, of 255


SELFEXSR = "jbhuang0604/SelfExSR at 8f6dd8c, data/"
SR_LICENCE = "none stated; for evaluation only"

SETS: Mapping[str, PublicSet] = MappingProxyType(
    {
        public.name: public
        for public in (
            PublicSet(
                name="set5",
                task="upscale",
                source=f"{SELFEXSR}Set5/image_SRF_2, _3 and _4",
                licence=SR_LICENCE,
                layout="x2/HR/ x2/LR/ x3/HR/ x3/LR/ x4/HR/ x4/LR/",
            ),
            PublicSet(
                name="set14",
                task="upscale",
                source=f"{SELFEXSR}Set14/image_SRF_2, _3 and _4",
                licence=SR_LICENCE,
                layout="x2/HR/ x2/LR/ x3/HR/ x3/LR/ x4/HR/ x4/LR/",
            ),
            PublicSet(
                name="urban100",
                task="upscale",
                source=f"{SELFEXSR}Urban100/image_SRF_4",
                licence=SR_LICENCE,
                layout="HR/ LR_x4/",
            ),
            PublicSet(
                name="bsd68",
                task="denoise",
                source="clausmichele/CBSD68-dataset at 51a07a9, CBSD68/original_png and noisy25",
                licence="Berkeley: non-commercial research and education",
                layout="noisy25/ original/ (noise of sigma 25, clipped to 8 bit)",
            ),
            PublicSet(
                name="kodak",
                task="denoise",
                source="the Kodak PhotoCD PCD0992, for example imazen/codec-corpus, kodak/",
                licence="unrestricted",
                layout="kodimNN.png (noise of sigma 25 is added in floats)",
                sigma=25,
            ),
            PublicSet(
                name="realnoise-test",
                task="denoise",
                source="csjunxu/MCWNNM-ICCV2017 at e6db69b, Real_ccnoise_denoised_part, as cc_*; "
                "csjunxu/PolyU-Real-World-Noisy-Images-Dataset at 3af0f26, as polyu_*",
                licence="non-commercial, research and education",
                layout="noisy/ clean/",
                parts=("cc", "polyu"),
            ),
            PublicSet(
                name="derain-test",
                task="derain",
                source="Rain100L: Arvaesri/PreNet at c12ee08, datasets/test/Rain100L; Rain100H: "
                "kuijiang94/MSPFN at 26e6073, model/test/test_data/R100H; irr: "
                "wwzjer/Semi-supervised-IRR at dca2a89, data/rainy_image_dataset",
                licence="none stated; for evaluation only",
                layout="input/ target/, names beginning with rain100l, rain100h or irr",
                parts=("rain100l", "rain100h", "irr"),
            ),
            PublicSet(
                name="lowlight-test",
                task="enhance",
                source="nirajmahajan/Low-Light-Enhancement-Using-Deep-Retinex-Decomposition at "
                "a52017b, results/known, as lolpanel_*; sjmoran/DeepLPF at e610b2b, as fivek_*",
                licence="none stated; for evaluation only",
                layout="pairs/low/ pairs/high/",
                inside="pairs",
                parts=("lolpanel", "fivek"),
            ),
            PublicSet(
                name="lol",
                task="enhance",
                source="LOL, the 15 pairs of eval15 (Wei et al., Deep Retinex Decomposition, "
                "BMVC 2018)",
                licence="for research",
                layout="low/ high/",
            ),
        )
    }
)


def find_set(name: str) -> tuple[PublicSet, str | None] | None:
    """Return the public set of this name, or the one with this part, and the part."""
    for public in SETS.values():
        if name == public.name:
            return public, None
        if name in public.parts:
            return public, name
    return None
