"""The check of benchmarks/gpu.py, rehearsed on the CPU with small images."""

import torch

from benchmarks.gpu import NETWORKS, main, results


def test_the_check_of_a_gpu_runs_to_its_end(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(["--device", "cpu", "--quick"])
    printed = capsys.readouterr().out
    titles = [line for line in printed.splitlines() if line and line[0] not in "|{"]
    assert titles == ["Results", "Networks, ms", "Folders", "Video"]


def test_the_check_compares_with_float32_on_the_cpu_and_with_the_whole_image():
    torch.manual_seed(0)
    ((weights, same, *_, tiles),) = results("cpu", NETWORKS[4:5], 48)
    assert (weights, same) == ("espcn.x2", "fp32 140 dB")
    assert 0 <= float(tiles) < 1e-5
