"""Tags that name the owner of a packed state: other states are refused, not misread.

Tags are keys of a dict: so they are part of the structure, which is known when a step
is traced, and of the paths under which checkpoints keep the leaves.
"""

from typing import Any, NamedTuple

VERSION = 12  # of the layout of what is packed


class Tag(NamedTuple):
    """The name of an owner, and what the state is, for errors."""

    kind: str
    name: str

    def wrap(self, leaf: Any) -> dict[str, Any]:
        """The leaf under the name."""
        return {self._key(): leaf}

    def unwrap(self, tagged: Any) -> Any:
        """The leaf; raises ValueError if it lies under another name."""
        if not isinstance(tagged, dict) or list(tagged) != [self._key()]:
            found = ", ".join(tagged) if isinstance(tagged, dict) else "none"
            raise ValueError(
                f"{self.kind} must be {self._key()!r}, but it is {found!r}: continue "
                "with what the run began with, or begin anew with init "
                "(integrations.graft carries over what fits)"
            )
        return tagged[self._key()]

    def _key(self) -> str:
        return f"{self.name}-v{VERSION}"


def unwrap_any(tagged: dict[str, Any]) -> Any:
    """The leaf, whatever its name; raises ValueError if it is of another version."""
    ((key, leaf),) = tagged.items()
    if not key.endswith(f"-v{VERSION}"):
        raise ValueError(
            f"the layout of a state must be '...-v{VERSION}', but it is {key!r}: "
            "continue with the release that made it, or begin anew with init "
            "(integrations.graft carries over what fits)"
        )
    return leaf
