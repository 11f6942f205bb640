"""The rooms of the library: imports point down, and what is small stays small."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "optax_adaptive"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each room imports from those behind it alone, and from itself.
ROOMS = {
    "integrations": {"transforms", "controllers", "signals", "state"},
    "transforms": {"controllers", "signals", "state"},
    "controllers": {"rl", "signals", "state"},
    "signals": {"state"},
    "state": set(),
    "rl": set(),
}
MOST_LINES = 60  # of a function's own
MOST_PRIVATE = 6  # modules flat at the top
MOST_OF_AUTOTUNE = 150  # lines of its module, which composes the parts of others


def name_of(path):
    """``optax_adaptive.state.trees``, say; a package's is without ``__init__``."""
    *folders, stem = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join([*folders] if stem == "__init__" else [*folders, stem])


NAMES = {name_of(path): path for path in MODULES}


def imports_of(path):
    """Names of the library's modules that this one imports, inside functions too."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for one in node.names:
                inside = f"{node.module}.{one.name}"
                found = inside if inside in NAMES else node.module
                if found in NAMES:
                    yield found


def room_of(name):
    """The room of a module; None of the package's root."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


ARROWS = [(name, to) for name, path in NAMES.items() for to in imports_of(path)]
INSIDE = [(name, to) for name, to in ARROWS if name != "optax_adaptive"]


def test_every_folder_is_a_room():
    folders = {
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    }
    assert folders == set(ROOMS)


def test_imports_point_down():
    up = [
        f"{name} imports {to}"
        for name, to in INSIDE
        if room_of(to) not in {None, room_of(name), *ROOMS.get(room_of(name), ())}
    ]
    assert not up


def test_of_the_root_the_contract_alone_is_imported():
    """The package itself imports all rooms, and none of them imports it."""
    roots = {to for _, to in INSIDE if room_of(to) is None}
    assert roots == {"optax_adaptive._controller"}


def test_private_modules_are_imported_from_within_their_own_folder():
    strangers = [
        f"{name} imports {to}"
        for name, to in ARROWS
        if to.rpartition(".")[2].startswith("_")
        and NAMES[to].parent != PACKAGE
        and NAMES[to].parent not in NAMES[name].parents
    ]
    assert not strangers


def test_few_private_modules_lie_flat_at_the_top():
    private = [path.name for path in PACKAGE.glob("_*.py") if path.name[1] != "_"]
    assert len(private) <= MOST_PRIVATE


def own_lines(function, source):
    """Numbers of its own lines: those of code, from ``def`` to its end.

    Not blank lines, comments, the docstring, and functions and classes inside, which
    have lines of their own.
    """
    lines = set(range(function.lineno, function.end_lineno + 1))
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= set(range(first.lineno, first.end_lineno + 1))
    for node in ast.walk(function):
        if node is not function and isinstance(node, ast.FunctionDef | ast.ClassDef):
            start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            lines -= set(range(start, node.end_lineno + 1))
    text = source.splitlines()
    codes = (text[line - 1].strip() for line in sorted(lines))
    return [code for code in codes if code and not code.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_no_function_is_long(name):
    source = NAMES[name].read_text()
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {
        function.name: len(own_lines(function, source))
        for function in functions
        if len(own_lines(function, source)) > MOST_LINES
    }
    assert not long


def test_own_lines_by_hand():
    source = '''
def outer(
    x,
):
    """Two
    lines."""

    # Why.
    @decorated
    def inner():
        return x

    return inner  # what
'''
    (function,) = ast.parse(source).body
    expected = ["def outer(", "x,", "):", "return inner  # what"]
    assert own_lines(function, source) == expected


def test_autotune_is_a_short_composition():
    source = (PACKAGE / "transforms" / "autotune.py").read_text()
    assert len(source.splitlines()) <= MOST_OF_AUTOTUNE
