"""``probekit run`` is killed at random moments and run again: nothing is lost, and nothing is different."""

import os
import random
import signal
import time

TAPS = ("--set", "taps=[x, wide, out]")


def test_after_ten_kills_the_results_are_those_of_an_undisturbed_run(kill_harness, tmp_path):
    tally = kill_harness.kill_and_resume(kill_harness.SlowSite(tmp_path), kills=10, seed=0)
    assert tally.wrong == []
    assert tally.kills == 10
    assert set(tally.again) <= {0, 1}


def test_after_kills_while_it_fits_no_fit_that_was_kept_is_made_again(kill_harness, tmp_path):
    site, rng = kill_harness.SlowSite(tmp_path, 0.0, "{kind: slow_ridge}"), random.Random(0)
    process = site.start("-q", *TAPS)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    expected = site.results()
    site.forget()
    killed: set[tuple[int, int]] = set()
    while True:
        begun, process = len(site.fits()), site.start("-q", *TAPS)
        while len(killed) < 6 and len(site.fits()) == begun and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        if len(killed) == 6 or process.poll() is not None:
            out, err = process.communicate(timeout=120)
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed.add(site.fits()[-1])
    assert process.returncode == 0, (out, err)
    assert site.results() == expected
    # Only the fit that a kill met was begun again.
    widths = [width for one, width in site.fits() if (one, width) not in killed]
    assert sorted(widths) == sorted(set(widths))
    assert not (site.out / "fits").exists()
