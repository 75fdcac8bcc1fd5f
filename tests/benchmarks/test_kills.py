"""Killed processes lose nothing: the check of benchmarks/kills.py with few kills."""

from benchmarks.kills import IN_WORK, kill_and_continue


def test_killed_runs_lose_nothing_and_repeat_only_what_was_in_work(tmp_path, random_weights):
    options = ["--weights", str(random_weights)]
    outcome = kill_and_continue(tmp_path, kills=3, images=40, seed=0, options=options)
    assert outcome.kills > 0
    assert (outcome.incomplete, outcome.parts) == ([], [])
    assert outcome.repeated <= outcome.kills * IN_WORK
