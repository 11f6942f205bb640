"""Jobs side by side: each is made, errors arrive, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmark import workers

EXAMPLES = Path(workers.__file__).parents[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_job_is_made(processes):
    assert sorted(workers.results(abs, [-3, 1, -2], processes)) == [1, 2, 3]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_arrives(processes):
    with pytest.raises(TypeError, match="bad operand"):
        list(workers.results(abs, ["text"], processes))


def test_workers_end_with_a_parent_that_is_killed():
    # The processes hold the standard output open for as long as they live.
    script = """
        import time
        from benchmark import workers
        if __name__ == "__main__":
            print("begun", flush=True)
            for result in workers.results(time.sleep, [0.0, 3600.0, 3600.0], 2):
                print("one has ended", flush=True)
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert process.stdout.readline() == "one has ended\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""
