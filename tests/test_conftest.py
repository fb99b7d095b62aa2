"""The rule for data that a machine lacks."""

import pytest


def test_absent_data_skips_a_test_and_names_the_command(need, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="type: apt-get install it"):
        need(False, "apt-get install it")


def test_in_ci_absent_data_is_a_failure(need, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install it"):
        need(False, "apt-get install it")


def test_data_that_is_there_is_used(need, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert need(True, "apt-get install it") is None
