"""Flags that cannot be meant are refused by name, before anything is trained."""

import pytest

import lstm_electricity
import lstm_sentiment
import masked_words
import transformer_sentiment
from data import electricity
from training import devices, flags


@pytest.mark.parametrize(
    ("script", "given", "message"),
    [
        (lstm_electricity, "--learning-rate inf", "--learning-rate must be above 0"),
        (lstm_electricity, "--dropout 1.5", "--dropout must be at least 0 and below 1"),
        (lstm_electricity, "--train-size 0", "--train-size must be at least 1"),
        (lstm_electricity, "--checkpoint-steps -5", "--checkpoint-steps must be at"),
        (lstm_electricity, "--seed -1", "--seed must be at least 0"),
        (lstm_sentiment, "--vocabulary 2", "--vocabulary must be at least 4"),
        (lstm_sentiment, "--length 2", "--length must be at least 3"),
        (lstm_sentiment, "--word-dropout 1", "--word-dropout must be at least 0 and"),
        (lstm_electricity, "--horizon 0", "--horizon must be at least 1"),
        (masked_words, "--masked 0", "--masked must be above 0 and at most 1"),
        (masked_words, "--masked 1.5", "--masked must be above 0 and at most 1"),
        (transformer_sentiment, "--heads 0", "--heads must be at least 1"),
        (transformer_sentiment, "--layers 0", "--layers must be at least 1"),
        (transformer_sentiment, "--heads 3", "--width must be a multiple of --heads"),
        (
            lstm_sentiment,
            "--method dog_averaged --optimizer=adam",
            "--method dog_averaged is an optimizer itself; leave --optimizer out",
        ),
    ],
)
def test_a_number_that_cannot_be_meant(script, given, message, capsys):
    with pytest.raises(SystemExit):
        flags.parse(script.Config, script.SMOKE, "", given.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", ["prodigy", "mechanize --optimizer sgd"])
def test_an_optimizer_is_given_to_what_takes_one(given):
    args = ["--method", *given.split()]
    config = flags.parse(lstm_electricity.Config, {}, "", args)
    assert config.optimizer == ("sgd" if "sgd" in given else "adam")


def test_a_process_without_a_coordinator():
    with pytest.raises(SystemExit, match="need --coordinator"):
        devices.connect(None, 0, 2)


def test_a_forecast_may_not_see_what_it_forecasts():
    with pytest.raises(SystemExit, match="--horizon must be 1 to 336, a week, not 400"):
        electricity.load("taylor", horizon=400)
