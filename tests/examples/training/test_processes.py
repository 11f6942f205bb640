"""Two processes train as one does."""

import json
import socket

import numpy as np
import pytest

from tests.examples.run import losses, run, start


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    args = ("mlp_mnist.py", "--smoke", "--method", "trend")
    run(*args, "--workdir", tmp_path / "one")
    many = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    many += ("--workdir", str(tmp_path / "two"))
    processes = [start(*args, *many, "--process-id", i) for i in range(2)]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    for event in ("train", "validation", "test"):
        one, two = losses(tmp_path / "one", event), losses(tmp_path / "two", event)
        np.testing.assert_allclose(two, one, rtol=2e-4)


@pytest.mark.slow
def test_a_folder_that_one_refuses_all_refuse(tmp_path):
    config = {"seed": 7}  # of another run
    (tmp_path / "config.json").write_text(json.dumps(config))
    many = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    many += ("--workdir", str(tmp_path))
    processes = [
        start("mlp_mnist.py", "--smoke", *many, "--process-id", i) for i in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert all(process.returncode for process in processes)
    assert "holds another run" in first and "process 0 refuses" in second
    assert "Traceback" not in first + second
    assert json.loads((tmp_path / "config.json").read_text()) == config
