"""The pages of the site: their Python blocks run, their words are the field's."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import optax_adaptive
from optax_adaptive import controllers, integrations
from tests.helpers import code_blocks

DOCS = Path(__file__).parents[1] / "docs"
ROOT = DOCS.parent
README = ROOT / "README.md"
# Records keep the words of their time, and excerpts of code.
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "research" not in page.parts]
OWN_TESTS = {"devices.md"}  # tests/test_devices_page.py
OTHERS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").rglob("*.md"))]
SOURCES = [*sorted((ROOT / "optax_adaptive").rglob("*.py"))]
SOURCES += [  # but those in which a forecast has a horizon
    path
    for path in sorted((ROOT / "examples").rglob("*.py"))
    if "electricity" not in path.stem
]
WITH_BLOCKS = [
    page
    for page in PAGES
    if page.name not in OWN_TESTS
    and page.parent.name != "how-to"
    and any(code_blocks.blocks(page))
]
# Of the words that a reader from the field would not know, those that mean nothing else
# in ordinary English, each as a regular expression of running text.
FOREIGN = (
    r"what noise costs|noise's cost",
    r"still (to be )?won|total won|won back|wins? back",
    r"fall of the loss",
    r"(the )?way back (leads|to the first)|leads back",
    r"listen(s|ing)?\b",
    r"\bclimb(s|ed|ing)?\b",
    r"\b(the|its) edge\b|edge of stability",
    r"\barms?\b(?! of a bandit)",
    r"short runs? (of|in|by) the search|short annealed run\b(?! of the search)",
    r"\b(in|of|during) the hold\b|\bholds? the (learning )?rate|controllers\.hold\b",
    r"\balarms?\b|\bverdicts?\b",
    r"\bstarts? over\b|\bgoes back\b|\bgo back\b",
    r"\bhorizons?\b",
    r"(length|steps|horizon) (is |are )?(not )?(known|told)\b|\btold the length\b",
    r"\bspoilt\b|\bis away\b",
    r"\bshrinkage\b",
    r"\bworst decade\b|\bdecades? of base rates\b",
    r"of other makes|kinds of small tasks",
    r"(?<!standard )(?<!median )\bdeviations?\b",
)
CODE = re.compile(r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", re.DOTALL)


def foreign_words(text):
    """All matches in running text; code, links and comments do not count."""
    prose = " ".join(CODE.sub(" ", text).split())
    return [
        found[0]
        for pattern in FOREIGN
        for found in re.finditer(pattern, prose, re.IGNORECASE)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_the_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    code_blocks.run(page, names)
    if page.name == "getting_started.md":
        assert names["accuracy"] > 0.9


def test_there_are_pages_with_blocks():
    assert len(WITH_BLOCKS) >= 6


@pytest.mark.parametrize(
    "page", [*OTHERS, *PAGES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_words_are_those_of_the_field(page):
    assert not foreign_words(page.read_text())


def prose_of(source):
    """Docstrings and comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) is not None:
            yield text.replace("``", "`")


def test_docstrings_and_comments_have_the_same_words():
    found = {
        str(path.relative_to(ROOT)): words
        for path in SOURCES
        for text in prose_of(path.read_text())
        if (words := foreign_words(text))
    }
    assert not found


def test_foreign_words_are_found():
    assert foreign_words("It listens, then\nclimbs to the edge.") == [
        "listens",
        "climbs",
        "the edge",
    ]
    assert not foreign_words(
        "`hold` keeps it; [so](the/edge.md), a standard deviation."
    )
    assert foreign_words("by three deviations") == ["deviations"]


def test_every_rule_is_in_the_table():
    rows = [
        row
        for row in (DOCS / "choosing.md").read_text().splitlines()
        if row.startswith("| `")
    ]
    named = {row.split("`")[1].removesuffix("()") for row in rows}
    assert set(controllers.REGISTRY) <= named


def test_every_public_name_is_in_the_api():
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    listed = set(re.findall(r"^::: \S*?(\w+)$", pages, re.MULTILINE))
    public = {*optax_adaptive.__all__, *controllers.__all__, *integrations.__all__}
    aside = {"controllers", "integrations", "REGISTRY", "hold"}  # prose has these
    assert public - aside <= listed
