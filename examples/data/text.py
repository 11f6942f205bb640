"""Labelled texts as word numbers: IMDB reviews, or the docstrings of this machine."""

import ast
import importlib.util
import re
from collections import Counter
from pathlib import Path

import numpy as np

from data import dataset, prepared
from data.dataset import Dataset

NAMES = ("imdb_reviews", "docstrings")
PAD, UNKNOWN, START = 0, 1, 2
PACKAGES = ("flax", "jax", "numpy", "optax", "sklearn")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[!?]")


def load(
    name: str,
    data_dir: str | None = None,
    length: int = 256,
    vocabulary: int = 10_000,
    train_size: int | None = None,
) -> Dataset:
    """Loads texts and labels.

    A tenth of the training texts, drawn with a fixed seed, becomes the validation
    split; docstrings give a fifth to a test split first.

    Args:
      name: ``"imdb_reviews"`` (two classes), or ``"docstrings"``: docstrings of
        installed packages, to be told apart by package (five classes), whose names
        are blanked out.
      data_dir: Where TFDS prepared IMDB.
      length: Words kept of a text, T: its beginning and its end, half each.
      vocabulary: The most frequent words of the training texts that get a number.
      train_size: Use so many of the training texts; None for all.

    Returns:
      A data set whose batches hold ``tokens`` (B, T) int32, which begin with START
      and end with PAD, and ``label`` (B,) int32. Its ``raw`` are the texts and labels
      of train and validation together, in their order, and those of test.
    """
    if name == "docstrings":
        texts, labels = _docstrings()
        source = "docstrings of " + ", ".join(PACKAGES)
        rest, held_out = dataset.split(len(labels), 0.2)
        test = _chosen(texts, labels, held_out)
        texts, labels = _chosen(texts, labels, rest)
    else:
        splits, source = prepared.open_prepared(name, data_dir, "docstrings")
        texts, labels = _read(splits["train"])
        test = _read(splits["test"])
    first, second = dataset.split(len(labels), 0.1)
    first = first[:train_size]
    train, validation = (_chosen(texts, labels, part) for part in (first, second))
    both = np.sort(np.concatenate([first, second]))
    counts = Counter(word for text in train[0] for word in words(text))
    # Ties are broken by spelling: Counter's own order follows the order of the texts.
    common = sorted(counts, key=lambda word: (-counts[word], word))
    numbers = {word: i for i, word in enumerate(common[: vocabulary - 3], START + 1)}

    def encode(split):
        tokens = np.full((len(split[0]), length), PAD, np.int32)
        for row, text in zip(tokens, split[0], strict=True):
            encoded = [numbers.get(word, UNKNOWN) for word in words(text)]
            if len(encoded) > length - 1:
                half = (length - 1) // 2
                encoded = encoded[: length - 1 - half] + encoded[-half:]
            row[: len(encoded) + 1] = [START, *encoded]
        return {"tokens": tokens, "label": split[1]}

    info = {"classes": int(labels.max()) + 1, "vocabulary": len(numbers) + 3}
    return Dataset(
        source,
        train=encode(train),
        validation=encode(validation),
        test=encode(test),
        info=info,
        raw=(_chosen(texts, labels, both), test),
    )


def words(text: str) -> list[str]:
    """Lower-case words, and the marks that carry feeling."""
    return WORD.findall(text.lower().replace("<br />", " "))


def bag_of_words_accuracy(data: Dataset, vocabulary: int = 10_000) -> float:
    """Test accuracy of logistic regression on word counts, the baseline to beat."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    (texts, labels), (test_texts, test_labels) = data.raw
    vectorizer = CountVectorizer(max_features=vocabulary)
    counts = vectorizer.fit_transform(texts)
    model = LogisticRegression(max_iter=1000).fit(counts, labels)
    return float(model.score(vectorizer.transform(test_texts), test_labels))


def _read(source) -> tuple[list[str], np.ndarray]:
    examples = prepared.read_all(source)
    texts = [bytes(example["text"]).decode() for example in examples]
    return texts, np.array([example["label"] for example in examples], np.int32)


def _chosen(
    texts: list[str], labels: np.ndarray, index: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Those at ``index``."""
    return [texts[i] for i in index], labels[index]


def _docstrings(most: int = 250) -> tuple[list[str], np.ndarray]:
    """Up to ``most`` docstrings of each package, read from its source files."""
    texts, labels = [], []
    aliases = (*PACKAGES, "scikit", "np", "jnp", "nnx", "linen")
    names = re.compile(rf"\b({'|'.join(aliases)})\b")
    for label, package in enumerate(PACKAGES):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"--dataset docstrings needs the package {package}")
        found: list[str] = []
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            if "test" in str(path.relative_to(root)):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    text = ast.get_docstring(node) or ""
                    if len(text) > 300:
                        found.append(names.sub(" ", text.lower()))
            if len(found) >= most:
                break
        texts += found[:most]
        labels += [label] * len(found[:most])
    return texts, np.array(labels, np.int32)
