"""Networks whose parameters are of another sort: one bit, or bfloat16."""

import jax
import jax.numpy as jnp

from policy.networks import Network, mlp

Array = jax.Array


def one_bit(sizes: tuple[int, ...]) -> Network:
    """Weights by their signs; straight through for gradients (Bengio et al., 2013)."""
    network = mlp(sizes)

    def binary(leaf):
        signs = jnp.sign(leaf) * jnp.abs(leaf).mean()
        return leaf + jax.lax.stop_gradient(signs - leaf) if leaf.ndim > 1 else leaf

    return Network(
        network.init,
        lambda params, *rest: network.apply(jax.tree.map(binary, params), *rest),
    )


def coarse(network: Network) -> Network:
    """Parameters of bfloat16."""
    return network._replace(
        init=lambda key: jax.tree.map(
            lambda x: x.astype(jnp.bfloat16), network.init(key)
        )
    )
