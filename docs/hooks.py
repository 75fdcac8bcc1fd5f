"""Hook of MkDocs: adds the cards of `weights/` and the changelog to the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    for path in (ROOT / "CHANGELOG.md", *sorted((ROOT / "weights").glob("*.md"))):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links between `docs/` and `weights/`, which are one folder on the site."""
    if page.file.src_uri.startswith("weights/"):
        return re.sub(r"\]\(\.\./docs/", "](../", markdown)
    return re.sub(r"\]\(\.\./weights/", "](weights/", markdown)
