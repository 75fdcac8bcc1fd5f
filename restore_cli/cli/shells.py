"""Completion in shells: Typer's, with what it misses in each."""

from __future__ import annotations

from typing import Any

from typer import _completion_classes, _completion_shared
from typer._completion_classes import BashComplete, FishComplete, ZshComplete

# Bash breaks words at : and =, so it is given the line as it was typed too.
LINE = '_TYPER_COMPLETE_ARGS="${COMP_LINE:0:$COMP_POINT}" COMP_WORDS='
# The first Tab makes zsh load the installed file as the function _restore. Typer's file does not
# complete then, but defines the function for the next Tab: the first one rings the bell.
FIRST_TAB = """
if [[ "$funcstack[1]" == _%(prog_name)s ]]; then
  %(complete_func)s "$@"
fi
"""


class _WholeWords:
    """Values of --option=VALUE with the option in front."""

    def get_completions(self, args: list[str], incomplete: str) -> list[Any]:
        found: list[Any] = super().get_completions(args, incomplete)  # type: ignore[misc]
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):
            for item in found:
                item.value = f"{option}={item.value}"
        return found


class Zsh(_WholeWords, ZshComplete):
    pass


class Fish(_WholeWords, FishComplete):
    pass


class Bash(_WholeWords, BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        typed = ZshComplete.get_completion_args(self)  # type: ignore[arg-type]
        return typed if any(typed) else super().get_completion_args()

    def complete(self) -> str:
        """Return the words from the last : or = on, the part that bash replaces."""
        args, incomplete = self.get_completion_args()
        end = max(incomplete.rfind(":"), incomplete.rfind("=")) + 1
        found = self.get_completions(args, incomplete)
        return "\n".join(item.value.removeprefix(incomplete[:end]) for item in found)


def _plain(text: str) -> str:
    """Return a help text as it is: rich takes time to load, and takes brackets for markup."""
    return text


def prepare() -> None:
    """Set up the completion of all shells."""
    for own in (Bash, Zsh, Fish):
        setattr(_completion_classes, f"{own.__name__}Complete", own)
    _completion_classes._sanitize_help_text = _plain
    _completion_classes.completion_init()
    scripts = _completion_shared._completion_scripts
    scripts["bash"] = _completion_shared.COMPLETION_SCRIPT_BASH.replace("COMP_WORDS=", LINE)
    scripts["zsh"] = _completion_shared.COMPLETION_SCRIPT_ZSH + FIRST_TAB
