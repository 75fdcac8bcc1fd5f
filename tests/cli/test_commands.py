"""The shape of the commands, read from their source by ast."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

import restore_cli.cli
from restore_cli.cli.main import app

FILES = sorted(Path(restore_cli.cli.__file__).parent.glob("*.py"))
LONGEST = 60  # lines of a function below its list of options


def commands(group):
    """Return the modules that define the commands of a group."""
    found = {command.callback.__module__ for command in group.registered_commands}
    return found.union(*(commands(inner.typer_instance) for inner in group.registered_groups))


def functions(path):
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]


@pytest.mark.parametrize("module", sorted(commands(app)))
def test_no_command_imports_another_command(module):
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & commands(app)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_is_long(path):
    assert not [
        function.name
        for function in functions(path)
        if function.end_lineno - function.body[0].lineno >= LONGEST
    ]
