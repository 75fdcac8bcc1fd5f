"""The command line in this process, for the tests of commands."""

import json

from PIL import Image
from typer.testing import CliRunner

from restore_cli.cli.main import app


def restore(*arguments, **options):
    """Run `restore` with arguments of any type; options are those of CliRunner.invoke."""
    return CliRunner().invoke(app, [*map(str, arguments)], prog_name="restore", **options)


def rows(result):
    """Return the JSON rows on stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def size_of(path):
    """Return the width and height of an image file."""
    with Image.open(path) as image:
        return image.size
