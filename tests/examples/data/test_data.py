"""Data sets, splits, augmentation and batches."""

import numpy as np
import pytest

import prepare_data
from data import augment, dataset, electricity, images, text
from tests.examples.run import fail
from training import batches, devices


@pytest.fixture(scope="module")
def digits():
    data = images.load("digits", rgb=True)
    return data._replace(augment=augment.crop_flip)  # which depends on the seed


def chunks(data, **options):
    options = {
        "seed": 0,
        "epoch": 0,
        "start": 0,
        "batch_size": 64,
        "chunk": 4,
    } | options
    return list(batches.train_chunks(data, **options))


def steps(data, **options):
    """Every batch of an epoch, whatever the chunks."""
    return np.concatenate([c["image"] for c in chunks(data, **options)])


def test_splits_share_nothing_and_lose_nothing(digits):
    sizes = [dataset.size(s) for s in (digits.train, digits.validation, digits.test)]
    assert sum(sizes) == 1797 and min(sizes) > 100


def test_batches_depend_on_seed_epoch_and_step_alone(digits):
    whole = steps(digits)
    np.testing.assert_array_equal(steps(digits, chunk=7), whole)
    np.testing.assert_array_equal(steps(digits, start=5), whole[5:])
    assert (steps(digits, epoch=1) != whole).any()
    assert (steps(digits, seed=1) != whole).any()


def test_epoch_sees_each_example_at_most_once(digits):
    data = digits._replace(
        train={"index": np.arange(1000)}, augment=lambda arrays, rng: arrays
    )
    seen = np.concatenate([c["index"].ravel() for c in chunks(data)])
    assert len(seen) == 1000 // 64 * 64 and len(set(seen)) == len(seen)


def test_eval_batches_hold_every_example_once():
    split = {"index": np.arange(10)}
    found = list(batches.eval_batches(split, lambda arrays, rng: arrays, 8))
    index = np.concatenate([b["index"][0] for b in found])
    weight = np.concatenate([b["weight"][0] for b in found])
    np.testing.assert_array_equal(index[weight > 0], np.arange(10))


def test_error_in_the_pipeline_reaches_the_loop():
    def broken():
        yield {"x": np.zeros((1, 8))}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(batches.Prefetch(broken(), devices.make_mesh(8)))


def test_digits_are_not_mirrored():
    with pytest.raises(SystemExit, match="--dataset digits with --augment none"):
        images.load("digits", augmentation="crop_flip")


def test_crop_flip_shifts_and_mirrors():
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    crops = [padded[i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    wanted = {c.tobytes() for c in crops} | {c[:, ::-1].tobytes() for c in crops}
    out = augment.crop_flip({"image": image.repeat(64, 0)}, np.random.default_rng(0))
    found = {i.tobytes() for i in out["image"]}
    assert found <= wanted and len(found) > 20


def test_weekly_naive_error_is_the_known_one():
    data = electricity.load("taylor")
    assert round(electricity.weekly_naive_error(data)) == 490


def test_windows_of_demand_are_aligned():
    data = electricity.load("taylor")
    batch = data.prepare(data.test, np.random.default_rng(0))
    history, target = batch["history"], batch["target"]
    # The test split is one stretch, with a window from each half-hour on.
    np.testing.assert_array_equal(history[48, -48:, 0], target[0])
    np.testing.assert_array_equal(history[336, -48:, 1], batch["week_before"][288])
    np.testing.assert_array_equal(batch["week_before"][336], target[0])
    np.testing.assert_allclose(batch["phase"][336], batch["phase"][0])


def test_text_is_numbered_by_the_training_words():
    data = text.load("docstrings", length=32, vocabulary=500, train_size=300)
    tokens = data.train["tokens"]
    assert tokens.shape[1] == 32 and tokens.max() < data.info["vocabulary"] == 500
    assert (tokens[:, 0] == text.START).all()
    assert (np.diff((tokens == text.PAD).astype(int), axis=1) >= 0).all()
    assert text.words("It's <br />GREAT!") == ["it's", "great", "!"]


def test_fewer_training_texts_are_validated_on_as_many():
    options = {"length": 32, "vocabulary": 500}
    whole, part = (
        text.load("docstrings", train_size=count, **options) for count in (None, 300)
    )
    sizes = [dataset.size(s) for s in (part.train, part.validation, part.test)]
    assert sizes == [300, dataset.size(whole.validation), dataset.size(whole.test)]
    for labels in (lambda d: d.validation["label"], lambda d: d.test["label"]):
        np.testing.assert_array_equal(labels(part), labels(whole))
    np.testing.assert_array_equal(part.train["label"], whole.train["label"][:300])
    # What the baseline learns from: both, in the order of the whole.
    (texts, _), _ = part.raw
    assert len(texts) == 300 + sizes[1]
    assert len(whole.raw[0][0]) == dataset.size(whole.train) + sizes[1]
    ordered = iter(whole.raw[0][0])
    assert all(text in ordered for text in texts)


@pytest.mark.filterwarnings("ignore")
def test_builder_reads_the_table_of_uci(tmp_path):
    rng = np.random.default_rng(0)
    days = 7 * 13
    table = rng.uniform(1, 9, (4 * 24 * days, 5))
    table[: 4 * 48, 3] = 0  # begins after two days, and so has eight weeks to learn
    table[: 4 * 24 * 7, 4] = 0  # begins after a week, and has not
    names = ";".join(f'"MT_00{i}"' for i in range(1, 6))
    rows = [f'"";{names}']
    for values in table:
        cells = ";".join(f"{value:.6f}".replace(".", ",") for value in values)
        rows.append(f'"2011-01-01 00:15:00";{cells}')
    (tmp_path / "LD2011_2014.txt").write_text("\n".join(rows) + "\n")
    out = tmp_path / "data"
    prepare_data.main(
        ["ld2011_2014", "--data-dir", str(out), "--manual-dir", str(tmp_path)]
    )
    data = electricity.load("ld2011_2014", str(out), history=24, horizon=24)
    assert data.info == {"unit": "kW", "series": 4}
    batch = data.prepare(data.test, np.random.default_rng(0))
    hours = table.reshape(-1, 4, 5).mean(1)
    learned = [hours[: 24 * days * 4 // 6, i] for i in range(4)]
    learned[3] = learned[3][48:]
    found = []
    for client in range(4):
        (first, *_) = np.flatnonzero(data.test["series"] == client)
        start = data.test["start"][first]
        for i, part in enumerate(learned):
            shown = batch["target"][first] * part.std() + part.mean()
            if np.abs(shown - hours[start : start + 24, i]).max() < 1e-4:
                found.append(i)
                np.testing.assert_allclose(batch["unit"][first], part.std(), rtol=1e-4)
    assert sorted(found) == [0, 1, 2, 3]


def test_a_series_with_too_little_to_learn_is_refused(monkeypatch):
    monkeypatch.setattr(electricity, "LEAST_WEEKS", 9)
    with pytest.raises(SystemExit, match="no series has 9 weeks before"):
        electricity.load("taylor")


def test_missing_data_says_what_to_do(tmp_path):
    for name in ("cifar10", "cifar100", "fashion_mnist", "mnist"):
        with pytest.raises(SystemExit, match=f"prepare_data.py {name} .*"):
            images.load(name, str(tmp_path))
    with pytest.raises(SystemExit, match="--dataset docstrings"):
        text.load("imdb_reviews", str(tmp_path))
    with pytest.raises(SystemExit, match="--dataset taylor"):
        electricity.load("ld2011_2014", str(tmp_path))


@pytest.mark.parametrize(
    "option, valid",
    [("--method", "trend"), ("--dataset", "fashion_mnist"), ("--dtype", "bfloat16")],
)
def test_unknown_choice_lists_the_valid_ones(option, valid, capsys):
    import mlp_mnist

    with pytest.raises(SystemExit):
        mlp_mnist.main([option, "nonsense"])
    message = capsys.readouterr().err
    assert "'nonsense'" in message and valid in message


def test_missing_data_fails_at_once(tmp_path):
    output = fail("resnet18_cifar.py", "--data-dir", tmp_path)
    assert "python examples/prepare_data.py cifar10" in output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_real_data(prepared_data):
    data = text.load("imdb_reviews", str(prepared_data))
    sizes = [dataset.size(s) for s in (data.train, data.validation, data.test)]
    assert sizes == [22_500, 2_500, 25_000]
    # A part: on all of them the regression takes a minute.
    few = [(texts[:4000], labels[:4000]) for texts, labels in data.raw]
    assert text.bag_of_words_accuracy(data._replace(raw=few)) > 0.8
