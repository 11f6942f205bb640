"""Flags that cannot be meant are refused by name, before anything is trained."""

import pytest

import lstm_electricity
import lstm_sentiment
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
    ],
)
def test_a_number_that_cannot_be_meant(script, given, message, capsys):
    with pytest.raises(SystemExit):
        flags.parse(script.Config, script.SMOKE, "", given.split())
    assert message in capsys.readouterr().err


def test_a_process_without_a_coordinator():
    with pytest.raises(SystemExit, match="need --coordinator"):
        devices.connect(None, 0, 2)


def test_a_forecast_may_not_see_what_it_forecasts():
    with pytest.raises(SystemExit, match="--horizon must be 1 to 336, a week, not 400"):
        electricity.load("taylor", horizon=400)
