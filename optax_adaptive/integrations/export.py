"""register_for_export: lets jax.export serialise steps of any optimizer state."""

from typing import Any

import jax

from optax_adaptive.state.exportable import exportable


def register_for_export(opt_state: Any) -> None:
    """Registers the NamedTuples in a state with ``jax.export``, which has to know them.

    A step that takes or returns an optimizer state is serialised with the types of that
    state. Those of this library are registered on import; those of optax, and of most
    others, are not. Call this before ``serialize`` and, where the step is read, with a
    state of the same types, before ``deserialize``. A registered type stays registered.
    JAX needs the package ``flatbuffers`` for both.

    Args:
      opt_state: The state, or any pytree; its leaves may be shapes, as
        ``jax.eval_shape(tx.init, params)`` gives.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_adaptive
      >>> from optax_adaptive import integrations
      >>> tx = optax_adaptive.autotune(optax.sgd(0.1, momentum=0.9))
      >>> params = jnp.ones(2)
      >>> state = jax.eval_shape(tx.init, params)
      >>> integrations.register_for_export(state)
      >>> step = jax.jit(lambda state: tx.update(params, state, params, value=1.0))
      >>> exported = jax.export.export(step, platforms=["cuda", "tpu"])(state)
      >>> jax.export.deserialize(exported.serialize()).platforms
      ('cuda', 'tpu')
    """
    waiting = [jax.tree.structure(opt_state)]
    while waiting:
        structure = waiting.pop()
        waiting.extend(structure.children())
        kind, _ = structure.node_data() or (None, None)
        if kind is not None and issubclass(kind, tuple) and hasattr(kind, "_fields"):
            exportable(kind)
