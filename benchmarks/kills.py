"""Kill `restore derain --ledger` at random moments, let it go on, and check that nothing is lost.

    python benchmarks/kills.py --kills 50 --images 300

Each run is ended by SIGKILL after a random time from its first output. After the last one a run
goes to its end. Then every output must be complete, equal to its hash in the ledger, and no
temporary file may be left; of the items, only those in work at a kill may have been repeated.
Prints the number of repeated items, and fails if something is wrong.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from restore_cli.batch.ledger import Ledger
from restore_cli.batch.pipeline import WAITING
from restore_cli.files import sha256_of

IN_WORK = 2 * WAITING + 2  # read ahead, in the network, being written


@dataclass(frozen=True)
class Outcome:
    """State after the last run."""

    kills: int  # of runs that were not at their end yet
    repeated: int  # attempts beyond the first
    incomplete: list[str]  # outputs that are missing, damaged or not those of the ledger
    parts: list[str]  # temporary files


def kill_and_continue(
    folder: Path, *, kills: int, images: int, seed: int, options: list[str]
) -> Outcome:
    """Restore noise images in a new folder, interrupted by kills."""
    random.seed(seed)
    sources, out, ledger = folder / "in", folder / "out", folder / "run.sqlite"
    sources.mkdir()
    for number in range(images):
        size = (random.randint(16, 64), random.randint(16, 64))
        Image.effect_noise(size, 50).convert("RGB").save(sources / f"{number}.png")
    command = [sys.executable, "-m", "restore_cli", "derain", str(sources), "-o", str(out)]
    command += ["--ledger", str(ledger), "--quiet", *options]
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if process.stdout.readline():
                time.sleep(random.uniform(0, 1))
                killed += process.poll() is None
                process.kill()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    items = list(Ledger(ledger).items())
    finished = {item.target: item.output_sha256 for item in items if item.status == "ok"}
    targets = [out.resolve() / path.name for path in sources.iterdir()]
    wrong = [str(path) for path in targets if not _is_complete(path, finished.get(str(path)))]
    parts = [path.name for path in out.iterdir() if path.resolve() not in targets]
    return Outcome(killed, sum(item.attempts - 1 for item in items), wrong, parts)


def _is_complete(path: Path, sha256: str | None) -> bool:
    if not path.exists() or sha256_of(path) != sha256:
        return False
    with Image.open(path) as image:
        image.load()
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_and_continue(
            Path(folder),
            kills=arguments.kills,
            images=arguments.images,
            seed=arguments.seed,
            options=[],
        )
    print(outcome)
    possible = outcome.kills * IN_WORK
    sys.exit(bool(outcome.incomplete or outcome.parts or outcome.repeated > possible))


if __name__ == "__main__":
    main()
