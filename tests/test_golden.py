"""Outputs recorded from the official implementations, with weights made by fill.py.

Cases lie in tests/golden and, if it is set, in the folder that RESTORE_GOLDEN names. A new network
adds one function to CHECKS.
"""

import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli import metrics, registry
from restore_cli.checkpoints.importers import from_official
from restore_cli.imaging.files import read

HERE = Path(__file__).parent / "golden"
GIVEN = os.environ.get("RESTORE_GOLDEN")
FOLDERS = [HERE, Path(GIVEN)] if GIVEN else [HERE]
CASES = [path.parent for folder in FOLDERS for path in sorted(folder.glob("*/case.json"))]
METRICS = [
    (path.parent, pair)
    for folder in FOLDERS
    for path in sorted(folder.glob("metrics/expected.json"))
    for pair in json.loads(path.read_text(encoding="utf-8"))["cases"]
]

fill = runpy.run_path(str(HERE / "fill.py"))["fill"]


def official_state(case):
    """The state dict under its official names; `gain` scales all but vectors."""
    gain = np.float32(case.get("gain", 1.0))
    state = {
        key: torch.from_numpy(values * gain if values.ndim >= 2 else values)
        for key, values in fill(case["shapes"]).items()
    }
    return state | {copy: state[key] for copy, key in case.get("aliases", {}).items()}


def check_dpenet(case, recorded):
    network = registry.build("dpenet", **case["config"])
    network.load_state_dict(from_official("dpenet", official_state(case), **case["config"]))
    outputs = {}

    def record(name):
        return lambda module, inputs, output: outputs.update({name: output})

    network.r2net[0].register_forward_hook(record("after_ddrb1"))
    network.drnet[0].register_forward_hook(record("after_erpab1"))
    with torch.inference_mode():
        outputs["output_mid"], outputs["output"] = network(torch.from_numpy(recorded["input"]))
    wanted = {name: torch.from_numpy(values) for name, values in recorded.items()}
    del wanted["input"]
    # Values up to 2.3, float32 sums in another order: 8.3e-7 at most with one thread or two.
    assert_close({name: outputs[name] for name in wanted}, wanted, atol=1e-5, rtol=0)


def check_mirnet(case, recorded):
    network = registry.build("mirnet", **case["config"])
    assert sum(parameter.numel() for parameter in network.parameters()) == case["params"]
    network.load_state_dict(from_official("mirnet", official_state(case), **case["config"]))
    with torch.inference_mode():
        output = network(torch.from_numpy(recorded["input"]))
    # Values up to 3.6, float32 sums in another order.
    assert_close(output, torch.from_numpy(recorded["output"]), atol=1e-5, rtol=0)


CHECKS = {"dpenet": check_dpenet, "mirnet": check_mirnet}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_network_gives_what_the_official_code_gave(folder):
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    model = case["model"].lower()
    assert model in CHECKS, f"no check for model {case['model']}"
    with np.load(folder / "io.npz") as recorded:
        CHECKS[model](case, dict(recorded))


@pytest.mark.parametrize(("folder", "pair"), METRICS, ids=[pair["test"] for _, pair in METRICS])
def test_the_metrics_give_what_other_libraries_gave(folder, pair):
    test, reference = read(folder / pair["test"]).pixels, read(folder / pair["ref"]).pixels
    rgb = metrics.measure(test, reference, metrics.PROTOCOLS["rgb"])
    y = metrics.measure(test, reference, metrics.PROTOCOLS["y"])
    recorded = pair["metrics"]
    wanted = {
        "psnr": recorded["psnr_rgb"]["numpy"],
        "ssim": recorded["ssim_rgb_gaussian11"]["skimage"],
        "psnr_y": recorded["psnr_y_bt601_uint8"]["numpy"],
        "ssim_y": recorded["ssim_y_gaussian11"]["numpy_matlab_order"],
    }
    found = {"psnr": rgb.psnr, "ssim": rgb.ssim, "psnr_y": y.psnr, "ssim_y": y.ssim}
    assert found == pytest.approx(wanted, abs=1e-3)
