import platform
import subprocess
import sys

import pytest
import torch

from restore_cli.errors import DeviceMissing
from restore_cli.inference.device import (
    free_memory,
    low_precisions,
    pick_device,
)
from restore_cli.memory import available_memory, cgroup_room


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_cpu_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(DeviceMissing, match="device found"):
        pick_device(name)


def test_a_device_that_does_not_exist_is_refused():
    with pytest.raises(DeviceMissing, match="no device is called 'abacus'"):
        pick_device("abacus")


def test_memory_is_free_on_this_machine():
    assert free_memory(torch.device("cpu")) > 0


def test_available_memory_is_what_the_kernel_says(tmp_path):
    root = write(tmp_path, {"proc/meminfo": "MemTotal: 900 kB\nMemAvailable:    600 kB\n"})
    assert available_memory(root) == 600 * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="asks Windows itself")
def test_half_of_all_memory_counts_as_available_where_the_kernel_does_not_say(tmp_path):
    assert available_memory(tmp_path) > 0


def test_a_container_has_the_room_that_its_control_group_leaves(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "700\n",
            "sys/fs/cgroup/memory.stat": "anon 500\ninactive_file 150\n",
        },
    )
    assert cgroup_room(root) == 1000 - 700 + 150


def test_the_tightest_group_above_the_process_counts(tmp_path):
    group = "sys/fs/cgroup/user.slice"
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/run.scope\n",
            f"{group}/memory.max": "1000\n",
            f"{group}/memory.current": "900\n",
            f"{group}/memory.stat": "",
            f"{group}/run.scope/memory.max": "800\n",
            f"{group}/run.scope/memory.current": "300\n",
            f"{group}/run.scope/memory.stat": "",
        },
    )
    assert cgroup_room(root) == 100


def test_the_older_control_groups_count_too(tmp_path):
    group = "sys/fs/cgroup/memory"
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/1\n",
            f"{group}/memory.limit_in_bytes": "1000\n",
            f"{group}/memory.usage_in_bytes": "400\n",
            f"{group}/memory.stat": "cache 10\n",
        },
    )
    assert cgroup_room(root) == 600


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.current": "1\n",
            "sys/fs/cgroup/a/memory.stat": "",
        },
    ],
    ids=["not Linux", "root group", "no limit"],
)
def test_without_a_limit_there_is_no_room_to_name(tmp_path, files):
    assert cgroup_room(write(tmp_path, files)) is None


def test_a_group_above_its_limit_leaves_nothing(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "1001\n",
            "sys/fs/cgroup/memory.stat": "",
        },
    )
    assert cgroup_room(root) == 0


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64"])
def test_the_cpu_takes_bfloat16_only_where_it_has_the_instructions(monkeypatch, machine, supported):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    arm = supported if machine == "aarch64" else True  # oneDNN says so on any AVX-512
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: arm)
    assert low_precisions(torch.device("cpu")) == (("bf16",) if supported else ())


COUNT_NEW_PAGES = """
import resource, sys, torch
from restore_cli.memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        results = [torch.ones(6 << 20) for _ in range(4)]  # 24 MB each
        del results
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of glibc")
def test_memory_that_is_kept_costs_no_new_pages():
    command = [sys.executable, "-c", COUNT_NEW_PAGES, "keep"]
    new_pages = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(new_pages) < 1000  # of 120000 that the results take
