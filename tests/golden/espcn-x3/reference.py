"""Makes this case: ESPCN written out in numpy, since its authors published no code.

Sec. 2.2 of the paper: f1 = tanh(W1 * x + b1), f2 = tanh(W2 * f1 + b2), PS(W3 * f2 + b3), where PS
(eq. 4) puts channel c r^2 + i r + j into row i and column j of each r x r block of channel c.
Run in this folder: python reference.py
"""

import json
import runpy
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def convolve(x, weight, bias):
    """x (C, H, W) with weight (D, C, K, K), zeros around the image -> (D, H, W)."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach)])
    out = np.zeros((len(weight), *x.shape[1:]))
    for row, column in np.ndindex(weight.shape[2:]):
        window = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        out += np.tensordot(weight[:, :, row, column], window, axes=1)
    return out + bias[:, None, None]


def pixel_shuffle(x, r):
    channels, height, width = len(x) // r**2, *x.shape[1:]
    out = np.zeros((channels, r * height, r * width))
    for c, i, j in np.ndindex(channels, r, r):
        out[c, i::r, j::r] = x[c * r * r + i * r + j]
    return out


def espcn(x, state, r):
    for layer in ("first_part.0", "first_part.2"):
        x = np.tanh(convolve(x, state[f"{layer}.weight"], state[f"{layer}.bias"]))
    x = convolve(x, state["last_part.0.weight"], state["last_part.0.bias"])
    return pixel_shuffle(x, r)


def main():
    case = json.loads((HERE / "case.json").read_text(encoding="utf-8"))
    fill = runpy.run_path(str(HERE.parent / "fill.py"))["fill"]
    state = {key: values.astype(np.float64) for key, values in fill(case["shapes"]).items()}
    images = np.random.RandomState(317).rand(2, 1, 11, 14).astype(np.float32)
    outputs = np.stack([espcn(x, state, case["config"]["scale"]) for x in images])
    np.savez(HERE / "io.npz", input=images, output=outputs.astype(np.float32))


if __name__ == "__main__":
    main()
