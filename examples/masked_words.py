"""Trains the encoder of transformer_sentiment.py to guess hidden words of reviews.

  python examples/masked_words.py --learning-rate 0.001 --workdir runs/words
  python examples/transformer_sentiment.py --pretrained runs/words   # the same flags

A masked language model (Devlin et al., NAACL 2019) on the training texts alone, whose
labels it does not read. A word to guess is always hidden, by the number of unknown
words; words without a number are not asked for.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import transformer_sentiment
from data import text
from data.dataset import Dataset
from training import devices, flags, loop
from training.flags import flag


@dataclasses.dataclass(frozen=True)
class Config(transformer_sentiment.Config):
    """Hyperparameters."""

    masked: float = flag(0.15, "share of the words of a text that are to be guessed")


SMOKE = transformer_sentiment.SMOKE


class MaskedWords(nnx.Module):
    """The encoder, and a word from each of its features by the word embeddings."""

    def __init__(self, info: dict, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters for ``info["vocabulary"]`` words."""
        self.masked = config.masked
        self.encoder = transformer_sentiment.Encoder(info, config, rngs)
        self.bias = nnx.Param(jnp.zeros(info["vocabulary"]))

    def __call__(
        self, tokens: jax.Array, rngs: nnx.Rngs
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Hides words of tokens (B, T) and guesses them.

        Returns:
          Logits (B, K, vocabulary); the words that were hidden, (B, K); and whether
          there are so many to guess in this text, (B, K).
        """
        is_known = tokens > text.START
        most = max(round(self.masked * tokens.shape[1]), 1)  # K
        order = jax.random.uniform(rngs.dropout(), tokens.shape)
        _, places = jax.lax.top_k(jnp.where(is_known, order, -1), most)  # (B, K)
        count = jnp.ceil(self.masked * is_known.sum(1, keepdims=True))
        is_asked = jnp.arange(most)[None] < count  # (B, K)
        rows = jnp.arange(len(tokens))[:, None]
        hidden = tokens[rows, places]
        seen = tokens.at[rows, places].set(jnp.where(is_asked, text.UNKNOWN, hidden))
        x = self.encoder.encode(seen, rngs)[rows, places]  # (B, K, width)
        logits = self.encoder.words.attend(x).astype(jnp.float32)
        return logits + self.bias[...], hidden, is_asked


def per_example(model: MaskedWords, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Mean loss and accuracy over the hidden words of each text, (B,) each."""
    logits, words, is_asked = model(batch["tokens"], rngs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, words)
    count = jnp.maximum(is_asked.sum(1), 1)
    return {
        "loss": jnp.sum(losses * is_asked, 1) / count,
        "accuracy": jnp.sum((logits.argmax(-1) == words) & is_asked, 1) / count,
    }


load = transformer_sentiment.load


def train(config: Config, data: Dataset) -> loop.Means:
    """Makes a model, and trains it."""
    model = loop.create(lambda rngs: MaskedWords(data.info, config, rngs), config.seed)
    return loop.fit(config, data, model, per_example, metric="accuracy")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    if config.pretrained:
        raise SystemExit("--pretrained is a flag of transformer_sentiment.py alone")
    devices.connect(config.coordinator, config.process_id, config.processes)
    return train(config, load(config))


if __name__ == "__main__":
    main()
