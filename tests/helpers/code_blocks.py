"""Python blocks of a Markdown page, run as they stand and in order."""

import re
from typing import NamedTuple

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"^## (.*)$", re.MULTILINE)


class Block(NamedTuple):
    section: str  # the title above it, "" before the first
    source: str  # below as many empty lines as the page has, so errors name its lines


def blocks(page):
    text = page.read_text()
    for found in BLOCK.finditer(text):
        titles = TITLE.findall(text, 0, found.start())
        above = text.count("\n", 0, found.start(1))
        yield Block(titles[-1] if titles else "", "\n" * above + found[1])


def run(page, names, section=None):
    """Runs the blocks of a page, or of one section, in the one namespace ``names``."""
    for block in blocks(page):
        if section in (None, block.section):
            execute(page, block.source, names)


def execute(page, source, names):
    exec(compile(source, str(page), "exec"), names)
