r"""A BERT-style encoder that tells favourable film reviews from others, on IMDB.

Learned positions, GELU, padding masked in attention, and the first token pooled
(Devlin et al., NAACL 2019). The default is small; BERT-base is

  python examples/transformer_sentiment.py --width 768 --layers 12 --heads 12 \
      --length 512 --vocabulary 30522 --norm post

  python examples/transformer_sentiment.py --method trend
  python examples/transformer_sentiment.py --dataset docstrings   # embedded
  python examples/transformer_sentiment.py --pretrained runs/words   # fine-tuned

It first reports logistic regression on word counts, trained on the same texts and
those held out. Expect 83% from both on a subset of 4,000 reviews: an encoder wants
pre-training, or more.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from data import text
from data.dataset import Dataset
from training import checkpoints, devices, flags, loop
from training.flags import flag


@dataclasses.dataclass(frozen=True)
class Config(flags.RunConfig):
    """Hyperparameters."""

    dataset: str = flag("imdb_reviews", "what to learn", text.NAMES)
    length: int = flag(256, "words of a text that are read")
    vocabulary: int = flag(10_000, "words that have an embedding")
    width: int = flag(64, "of the embedding; the feed-forward layers are 4 times wider")
    layers: int = flag(2, "how many")
    heads: int = flag(4, "of attention, each width/heads wide")
    norm: str = flag("pre", "layer norm before or after", ("pre", "post"))
    dropout: float = flag(0.1, "share of features dropped")
    clip_norm: float | None = flag(1.0, flags.CLIP_NORM)  # as BERT was trained
    pretrained: str | None = flag(
        None, "begin with the encoder of this workdir of masked_words.py"
    )


SMOKE = {
    "dataset": "docstrings",
    "epochs": 1,
    "width": 16,
    "length": 32,
    "layers": 1,
    "heads": 2,
    "train_size": 300,
    "steps_per_dispatch": 4,
}


class Layer(nnx.Module):
    """Self-attention and a feed-forward network, each with norm and shortcut."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters."""
        width, dtype = config.width, config.dtype
        self.is_pre = config.norm == "pre"
        self.attention = nnx.MultiHeadAttention(
            config.heads, width, dtype=dtype, decode=False, rngs=rngs
        )
        self.up = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Maps (B, T, width) to the same; mask (B, 1, 1, T) is true at words."""

        def attend(x):
            return self.dropout(self.attention(x, mask=mask), rngs=rngs)

        def feed_forward(x):
            hidden = nnx.gelu(self.up(x), approximate=False)  # (B, T, 4*width)
            return self.dropout(self.down(hidden), rngs=rngs)

        if self.is_pre:
            x = x + attend(self.norm1(x))
            return x + feed_forward(self.norm2(x))
        x = self.norm1(x + attend(x))
        return self.norm2(x + feed_forward(x))


class Encoder(nnx.Module):
    """Embeddings, layers, and a classifier on the first token."""

    def __init__(self, info: dict, config: Config, rngs: nnx.Rngs):
        """Makes fresh parameters for ``info["vocabulary"]`` words."""
        width, dtype = config.width, config.dtype
        init = nnx.initializers.normal(0.02)
        shared = {"embedding_init": init, "dtype": dtype, "rngs": rngs}
        self.words = nnx.Embed(info["vocabulary"], width, **shared)
        self.positions = nnx.Embed(config.length, width, **shared)
        self.layers = nnx.List(Layer(config, rngs) for _ in range(config.layers))
        # After the embeddings in BERT; a pre-norm stack wants it at its end.
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.is_pre = config.norm == "pre"
        self.dropout = nnx.Dropout(config.dropout)
        self.pooler = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(width, info["classes"], rngs=rngs)

    def encode(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Maps tokens (B, T) to features (B, T, width)."""
        mask = (tokens != text.PAD)[:, None, None, :]  # (B, 1, 1, T)
        x = self.words(tokens) + self.positions(jnp.arange(tokens.shape[1]))[None]
        if not self.is_pre:
            x = self.norm(x)
        x = self.dropout(x, rngs=rngs)  # (B, T, width)
        for layer in self.layers:
            x = layer(x, mask, rngs)
        return self.norm(x) if self.is_pre else x

    def __call__(self, tokens: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        """Maps tokens (B, T) to logits (B, classes)."""
        x = self.encode(tokens, rngs)
        first = self.dropout(jnp.tanh(self.pooler(x[:, 0])), rngs=rngs)  # (B, width)
        return self.head(first.astype(jnp.float32))


def per_example(model: Encoder, batch: loop.Batch, rngs: nnx.Rngs) -> loop.Values:
    """Loss and accuracy of each example, (B,) each."""
    return loop.classified(model(batch["tokens"], rngs), batch["label"])


def load(config: Config) -> Dataset:
    """The data of a run."""
    return text.load(
        config.dataset,
        config.data_dir,
        config.length,
        config.vocabulary,
        config.train_size,
    )


def load_encoder(model: Encoder, config: Config) -> None:
    """Sets what masked_words.py trains; what pools and classifies stays fresh."""
    workdir = config.pretrained
    assert workdir is not None
    found = checkpoints.read_params(workdir)
    # These change what a word's number or a layer means, and no shape that is read.
    there = checkpoints.read_config(workdir)
    for name in ("dataset", "vocabulary", "train_size", "norm", "layers", "heads"):
        if there[name] != getattr(config, name):
            raise SystemExit(
                f"--pretrained {workdir} has {name} {there[name]}, and this run has "
                f"{getattr(config, name)}; give this script the flags that "
                "masked_words.py was given"
            )
    flat = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    for path, param in flat.items():
        name = "/".join(map(str, ("encoder", *path)))
        if path[0] not in ("pooler", "head"):
            if name not in found or found[name].shape != param.shape:
                raise SystemExit(
                    f"--pretrained {workdir} has no {name} of shape {param.shape}; "
                    "give this script the flags that masked_words.py was given"
                )
            flat[path] = param.replace(jnp.asarray(found[name]))
    nnx.update(model, nnx.from_flat_state(flat))


def train(config: Config, data: Dataset) -> loop.Means:
    """Makes a model, and trains it."""
    model = loop.create(lambda rngs: Encoder(data.info, config, rngs), config.seed)
    if config.pretrained:
        load_encoder(model, config)
    return loop.fit(config, data, model, per_example, metric="accuracy")


def main(args: list[str] | None = None) -> loop.Means:
    """Trains with the flags of the command line."""
    config = flags.parse(Config, SMOKE, __doc__, args)
    devices.connect(config.coordinator, config.process_id, config.processes)
    data = load(config)
    if checkpoints.is_to_introduce(config):
        baseline = text.bag_of_words_accuracy(data, config.vocabulary)
        print(f"logistic regression on word counts: test accuracy {baseline:.4f}")
    return train(config, data)


if __name__ == "__main__":
    main()
