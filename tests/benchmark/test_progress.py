"""Where there is no terminal a line is printed for each job, with the time left."""

from benchmark import progress


def test_a_line_a_job_and_the_time_that_the_others_take(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    with progress.Progress() as shown:
        shown.expect([60.0, 180.0])
        now[0] = 120.0  # half as fast as expected
        shown.tick(60.0, "first")
        shown.expect([180.0, 240.0])  # one more came up
        shown.tick(180.0, "second")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "1 of 2, 6 min left: first",
        "2 of 3, 2 min left: second",
    ]
