"""Makes of the docstrings' reStructuredText the Markdown that the site's API takes."""

import re

import griffe

import optax_adaptive

ROLE = re.compile(r":(?:func|class|attr):`~?([\w.]+)`")
# Up to a colon it would be taken for a type.
RETURNS = re.compile(r"^(\s*Returns:\n.*?):(?=\s)", re.MULTILINE)
LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`_+")
ROOMS = ("controllers", "integrations", "rl")
PUBLIC = {
    name: getattr(place, name)
    for place in (optax_adaptive, *(getattr(optax_adaptive, room) for room in ROOMS))
    for name in place.__all__
    if name not in ROOMS
}


def reference(role: re.Match[str]) -> str:
    """A link to what is on a page of the API; code for anything else."""
    name = role[1].removeprefix("optax_adaptive.")
    found = PUBLIC.get(name.rpartition(".")[2])
    if found is None:
        return f"`{name}`"
    return f"[`{name}`][{found.__module__}.{found.__name__}]"


def as_markdown(text: str) -> str:
    """Roles, links, literal blocks and the titles of sections."""
    text = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*)Reference:\n\s+", r"\1**Reference:** ", text, flags=re.M)
    text = RETURNS.sub(r"\1&#58;", text)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    return LINK.sub(r"[\1](\2)", ROLE.sub(reference, text))


class Docstrings(griffe.Extension):
    """For mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrites the docstring of each object that is read."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
