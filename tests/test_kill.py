"""``probekit run`` is killed at random moments and run again: nothing is lost, and nothing is different."""


def test_after_ten_kills_the_results_are_those_of_an_undisturbed_run(kill_harness, tmp_path):
    tally = kill_harness.kill_and_resume(kill_harness.SlowSite(tmp_path), kills=10, seed=0)
    assert tally.wrong == []
    assert tally.kills == 10
    assert set(tally.again) <= {0, 1}
