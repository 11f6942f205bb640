"""An encoder that guessed hidden words goes on as a classifier."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import masked_words
import transformer_sentiment
from data import text
from training import checkpoints

FLAGS = ("--smoke", "--steps-per-dispatch", "1")


def test_what_is_hidden():
    config = masked_words.Config(width=8, heads=2, layers=1, length=20, masked=0.25)
    info = {"vocabulary": 50, "classes": 2}
    model = masked_words.MaskedWords(info, config, nnx.Rngs(0))
    seen = []
    model.encoder.encode = lambda tokens, rngs: (  # type: ignore
        seen.append(np.array(tokens)) or jnp.zeros((*tokens.shape, 8))
    )
    tokens = np.full((3, 20), text.PAD)
    tokens[:, 0] = text.START
    tokens[0, 1:] = np.arange(10, 29)
    tokens[1, 1:9] = np.arange(10, 18)
    tokens[1, 4] = text.UNKNOWN
    logits, words, is_asked = model(jnp.array(tokens), nnx.Rngs(0))
    assert logits.shape == (3, 5, 50)
    # A quarter of 19 words, of the 7 that have a number, and of none.
    assert is_asked.sum(1).tolist() == [5, 2, 0]
    (changed,) = seen
    for row in range(3):
        is_hidden = changed[row] != tokens[row]
        assert (changed[row][is_hidden] == text.UNKNOWN).all()
        asked = np.array(words[row])[np.array(is_asked[row])]
        assert sorted(asked) == sorted(tokens[row][is_hidden])


@pytest.mark.slow
def test_a_classifier_begins_with_the_encoder(tmp_path, monkeypatch):
    words = tmp_path / "words"
    masked_words.main([*FLAGS, "--workdir", str(words)])
    trained = checkpoints.read_params(str(words))
    models = []

    def keep(config, data, model, *rest, **options):
        models.append(model)

    monkeypatch.setattr(transformer_sentiment.loop, "fit", keep)
    for flags in ((), ("--pretrained", str(words))):
        transformer_sentiment.main([*FLAGS, *flags])
    fresh, begun = (
        {path: param[...] for path, param in nnx.to_flat_state(nnx.state(model))}
        for model in models
    )
    for path, leaf in begun.items():
        name = "/".join(map(str, ("encoder", *path)))
        is_fresh = path[0] in ("pooler", "head")
        expected = fresh[path] if is_fresh else trained[name]
        np.testing.assert_array_equal(leaf, expected, err_msg=name)
    path = ("words", "embedding")
    assert np.abs(begun[path] - fresh[path]).max() > 0
    with pytest.raises(SystemExit, match="no encoder/.* of shape .* the flags that"):
        transformer_sentiment.main([*FLAGS, "--width", "8", "--pretrained", str(words)])


def test_nothing_to_begin_with_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="holds no parameters of a whole run; make"):
        checkpoints.read_params(str(tmp_path / "nothing"))


def test_the_encoder_of_other_words_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "read_params", lambda workdir: {})
    there = {"dataset": "docstrings", "vocabulary": 500, "train_size": 300}
    (tmp_path / "config.json").write_text(json.dumps(there | {"norm": "post"}))
    config = transformer_sentiment.Config(**there, norm="pre", pretrained=str(tmp_path))
    with pytest.raises(SystemExit, match="has norm post, and this run has pre"):
        transformer_sentiment.load_encoder(None, config)


def test_masked_words_begins_with_no_encoder():
    with pytest.raises(SystemExit, match="of transformer_sentiment.py alone"):
        masked_words.main(["--pretrained", "words"])
