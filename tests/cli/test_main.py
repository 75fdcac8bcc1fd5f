"""What all commands share: usage errors, exit codes, pipes, interruption, completion."""

import os
import re
import shutil
import signal
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import typer
from PIL import Image

from restore_cli import __version__
from restore_cli.cli import choices, settings, signals
from restore_cli.cli.main import Shell, app
from restore_cli.imaging.formats import SUFFIX_OF
from restore_cli.inference.samplers import dimr, fit, stable_diffusion, unet
from restore_cli.metrics.perceptual import PERCEPTUAL
from restore_cli.training.losses import LOSSES
from restore_cli.training.recipes import LOSS_NAMES
from tests.cli.invoke import restore

PYTHON = [sys.executable, "-m", "restore_cli"]
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and devices")


def start(*arguments, **options):
    """A process of its own, for what only the operating system can do."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*PYTHON, *map(str, arguments)], encoding="utf-8", **pipes)


def complete(words, position):
    """Return what a shell offers at `position` of the typed words."""
    request = {"COMP_WORDS": words, "COMP_CWORD": str(position)}
    return restore(env=request | {"_RESTORE_COMPLETE": "complete_bash"})


def complete_line(shell, line):
    """Return what a shell offers at the end of a line."""
    request = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return restore(env=request | {"_RESTORE_COMPLETE": f"complete_{shell}"}).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nope"], "restore: No such option: --nope\nhint: see: restore --help\n"),
        (["nope"], "restore: No such command 'nope'\nhint: see: restore --help\n"),
        (["derain"], "restore: Missing argument 'SOURCE'\nhint: see: restore derain --help\n"),
        (["weights", "info"], "restore: Missing argument 'NAME|FILE'\nhint: see: restore weights "),
        (
            ["derain", "a.png", "--precision", "fp8"],
            "restore: Invalid value for '--precision': 'fp8' is not one of 'auto', 'fp32', ",
        ),
        (["derain", "a.png", "--quality", "0"], "restore: Invalid value for '--quality': "),
    ],
    ids=["option", "command", "argument", "inner argument", "choice", "number"],
)
def test_wrong_usage_is_one_line_a_hint_and_exit_2(arguments, said):
    result = restore(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 2


def test_the_exit_searches_no_loaded_module_for_garbage():
    code = (
        "import atexit, gc; from restore_cli.cli.main import app\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "app(['--version'])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (process.returncode, process.stdout) == (0, f"restore {__version__}\nTrue\n")


@pytest.mark.parametrize("arguments", [[], ["weights"]], ids=["restore", "weights"])
def test_a_command_alone_shows_its_help(arguments):
    result = restore(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["derain", "-h"], ["weights", "-h"]])
def test_help_is_asked_for_and_so_goes_to_stdout(arguments):
    result = restore(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")


def test_each_command_is_one_whole_line_of_help():
    result = restore("--help", "--help")
    assert "..." not in result.stdout.split("Images:")[1]


@pytest.mark.parametrize(
    ("arguments", "panels"),
    [
        ([], ["Images:", "Quality:", "Weights and training:", "Runs and setup:"]),
        (["upscale"], ["Network and computation:", "Files:", "Messages:", "Large batches:"]),
    ],
    ids=["commands", "options"],
)
def test_help_has_panels(arguments, panels):
    headings = [line for line in restore(*arguments, "-h").stdout.splitlines() if line[:1] != " "]
    assert [line for line in headings if line in panels] == panels


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_shown(option):
    assert restore(option).stdout == f"restore {__version__}\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr("restore_cli.assets.samples_dir", broken)
    result = restore("samples", "x")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("shell", typing.get_args(Shell))
def test_the_completion_script_of_any_shell_can_be_shown(shell):
    result = restore("--show-completion", shell)
    assert result.exit_code == 0
    assert "_RESTORE_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [
        ("restore der", 1, ["derain"]),
        ("restore weights ver", 2, ["verify"]),
        ("restore derain --over", 2, ["--overlap", "--overwrite"]),
        ("restore derain --precision ", 3, ["auto", "fp32", "tf32", "bf16", "fp16"]),
        ("restore derain --format ", 3, list(SUFFIX_OF)),
        ("restore derain --device c", 3, ["cpu", "cuda"]),
        ("restore derain --tile ", 3, ["auto", "off", "exact"]),
        ("restore derain --overlap e", 3, ["exact"]),
        ("restore derain --model dpe", 3, ["dpenet"]),
        ("restore derain --weights dpenet.def", 3, ["dpenet.default"]),
        ("restore weights info dpenet.def", 3, ["dpenet.default"]),
        ("restore eval a b --protocol rgb_", 5, ["rgb_float"]),
        ("restore derain --device=cp", 2, ["cpu"]),
        ("restore upscale --model ", 3, ["espcn", "mirnet"]),
        ("restore run --steps derain,den", 3, ["derain,denoise"]),
        ("restore run --steps derain,upscale:", 3, ["2", "3", "4"]),
        ("restore run --model derain=", 3, ["dpenet"]),
        ("restore run --weights tml=tml.", 3, ["tml.default"]),
        ("restore train esp", 2, ["espcn"]),
        ("restore train dpenet --preset ", 4, ["default", "quick", "paper"]),
        ("restore train dpenet --loss ms", 4, ["mse", "ms_ssim"]),
        ("restore bench quality --set rain100", 4, ["rain100l", "rain100h"]),
        ("restore bench quality --model espcn", 4, ["espcn", "espcn.x2", "espcn.x3", "espcn.x4"]),
        ("restore generate sun", 2, ["sunflower"]),
        ("restore weights import a --task der", 5, ["derain"]),
        ("restore config show up", 3, ["upscale"]),
        ("restore config show bench q", 4, ["quality"]),
        ("restore upscale --scale ", 3, ["2", "3", "4"]),
        ("restore upscale --weights mirnet.re", 3, ["mirnet.real_x2", "mirnet.real_x4"]),
        ("restore derain --weights ", 3, ["dpenet.default"]),
        ("restore denoise --noise-limit a", 3, ["auto"]),
        ("restore eval --metric lpips,v", 3, ["lpips,vif"]),
        ("restore generate --model dimr --sampler ", 5, ["dpm", "ddim", "unipc"]),
        ("restore generate --base sd --scheduler l", 5, ["lcm"]),
        ("restore generate --rope y", 3, ["yarn"]),
        ("restore train --device c", 3, ["cpu", "cuda"]),
        ("restore replay --device m", 3, ["mps"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_shell_completes(words, position, offered):
    assert complete(words, position).stdout.split() == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("restore run --steps derain,upscale:", "2\n3\n4\n"),
        ("restore run --model derain=", "dpenet\n"),
        ("restore derain --device=cp", "cpu\n"),
    ],
)
def test_bash_is_offered_the_part_of_a_word_that_it_replaces(line, offered):
    assert complete_line("bash", line) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_an_option_with_its_value_is_one_word(shell):
    assert "--device=cpu" in complete_line(shell, "restore derain --device=cp")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_help_texts_beside_options_are_whole(shell):
    assert "[presets.NAME]" in complete_line(shell, "restore derain --pre")


COMPLETIONS = """
import os, sys
from restore_cli.cli.main import app
for line in {lines}:
    os.environ |= {{"_TYPER_COMPLETE_ARGS": line, "_RESTORE_COMPLETE": "complete_zsh"}}
    try:
        app([], prog_name="restore")
    except SystemExit:
        pass
print({{"torch", "numpy", "rich"}} & {{*sys.modules}})
"""


def test_completion_loads_no_torch_and_no_rich():
    lines = [
        "restore derain --",
        "restore derain --weights dpenet.def",
        "restore run --steps der",
        "restore train mirnet --preset ",
        "restore train mirnet --loss ",
        "restore bench quality --set ",
        "restore generate ",
        "restore generate --sampler ",
        "restore eval --metric ",
        "restore upscale --weights ",
    ]
    script = COMPLETIONS.format(lines=lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("_arguments") == len(lines)
    assert done.stdout.endswith("set()\n")


def test_help_names_each_value_in_words_not_by_its_type():
    root = typer.main.get_command(app)
    for name, command in settings.commands_of(root).items():
        text = command.get_help(typer.Context(command, info_name=name))
        assert not re.findall(r"^  [-\w|, ]+ <[^|\n]*>.*", text, flags=re.MULTILINE)


def test_help_lists_commands_with_whole_sentences():
    for group in ((), ("weights",), ("bench",), ("ledger",), ("config",)):
        listed = restore(*group, "--help").stdout.replace("[ARGS]...", "")
        assert "..." not in listed


def test_completion_of_losses_knows_all():
    assert {*LOSS_NAMES} == {*LOSSES}


def test_completion_of_metrics_samplers_and_position_embeddings_knows_all():
    assert {*choices.METRICS} == {*PERCEPTUAL}
    assert {*choices.ROPES} == {*fit.ROPES}
    assert {name: {*each} for name, each in choices.SAMPLERS.items()} == {
        "fitv2": {*fit.FLOW_SAMPLERS},
        "dimr": {*dimr.SAMPLERS},
        "scalecrafter": {*unet.ETAS},
        "base": {*stable_diffusion.SCHEDULERS},
    }


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_the_first_tab_in_zsh_completes_a_single_match(tmp_path):
    import pty

    program = tmp_path / "bin" / "restore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m restore_cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "_restore").write_text(restore("--show-completion", "zsh").stdout)
    settings = f"PS1=READY; fpath+=({tmp_path}); autoload -Uz compinit; compinit -u\n"
    (tmp_path / ".zshrc").write_text(settings)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(__file__).parents[2])
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"ZDOTDIR": str(tmp_path), "PATH": path, "PYTHONPATH": root, "TERM": "xterm"}
        os.execvp("zsh", ["zsh", "-d", "-i"])
    shown = b""
    while b"READY" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"restore derain --device cp\t")
    while not re.search(rb"cpu|\x07", shown):
        shown += os.read(terminal, 1024)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    assert b"\x07" not in shown


@posix_only
@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_batch_leaves_whole_files_only(
    tmp_path, random_weights, interruptible, how, code
):
    names = [f"{number}.png" for number in range(200)]
    for name in names:
        Image.effect_noise((16, 16), 50).convert("RGB").save(tmp_path / name)
    out = tmp_path / "out"
    process = start("derain", tmp_path, "-o", out, "--weights", random_weights)
    process.stdout.readline()
    process.send_signal(signal.Signals[how])
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert said.splitlines()[-1] == "restore: interrupted"
    assert "Traceback" not in said
    written = {path.name for path in out.iterdir()}
    assert written < {*names}  # some are missing, and nothing half-written is there
    assert {Image.open(out / name).verify() for name in written} == {None}


@posix_only
def test_a_reader_that_has_enough_is_no_error():
    process = start("weights", "list", "--json")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


@posix_only
@pytest.mark.parametrize("arguments", [["weights", "list"], ["--help"], ["derain", "--help"]])
def test_a_full_disk_behind_stdout_is_one_line_and_exit_3(arguments):
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
        _, said = process.communicate()
    assert (process.returncode, said) == (3, "restore: stdout: No space left on device\n")


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *arguments):
        if name == "{module}":
            os.kill(os.getpid(), signal.{how})

sys.meta_path.insert(0, Interrupting())
sys.argv = ["restore", "derain", "{photo}", "--overwrite"]
from restore_cli.__main__ import main
main()
"""


@posix_only
@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("module", ["typer", "restore_cli.cli.upscale", "torch"])
def test_a_signal_during_an_import_is_one_line(module, how, code, photo, interruptible):
    script = INTERRUPTED_IMPORT.format(module=module, how=how, photo=photo)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "restore: interrupted\n")


TWICE = """
import os, signal, sys, time
from restore_cli import files

def interrupt_twice(part, path, *, overwrite):
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

files.put_in_place = interrupt_twice
sys.argv = ["restore", "derain", "{photo}", "-o", "{out}", "--weights", "{weights}"]
from restore_cli.__main__ import main
main()
"""


@posix_only
def test_two_signals_in_a_row_end_the_process_and_leave_no_part(
    photo, tmp_path, random_weights, interruptible
):
    out = tmp_path / "out"
    script = TWICE.format(photo=photo, out=f"{out}/", weights=random_weights)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("restore: interrupted\n")
    assert list(out.iterdir()) == []


def test_a_signal_that_is_ignored_at_the_start_stays_ignored(interruptible):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals.raised():
        signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_a_program_are_put_back(interruptible):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), signals.raised():
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
