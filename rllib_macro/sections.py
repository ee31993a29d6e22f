"""Parts of Markdown pages that commands write: what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
from __future__ import annotations

import os
import re
from pathlib import Path


def edges(section: str) -> tuple[str, str]:
    """The lines before and after a section."""
    return f"<!-- {section}: begin -->", f"<!-- {section}: end -->"


def require(file: Path, section: str) -> None:
    """ValueError unless the page has the section once; to be asked before long work."""
    begin, end = edges(section)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{file} must have the lines {begin} and {end} once; write them where the section belongs")


def replace(file: Path, section: str, text: str) -> None:
    """Put a text between the lines of its section, at once or not at all; ValueError if the page does not have them."""
    require(file, section)
    begin, end = edges(section)
    before = file.read_text(encoding="utf-8")
    after = re.sub(rf"(?s){re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", before)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(after, encoding="utf-8")
    os.replace(partial, file)
