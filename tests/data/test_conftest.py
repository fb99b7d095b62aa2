"""The helper for data that may be absent."""

from collections.abc import Callable
from pathlib import Path

import pytest


def test_absent_data_skips_a_test(needs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception) as caught:
        needs(tmp_path / "absent", "apt-get install it")
    assert caught.value.msg == f"no {tmp_path}/absent; type: apt-get install it"


def test_absent_data_fails_a_test_in_ci(
    needs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception) as caught:
        needs(tmp_path / "absent", "apt-get install it")
    assert caught.value.msg == f"no {tmp_path}/absent; type: apt-get install it"


def test_data_that_is_there_is_given(needs: Callable[..., Path], tmp_path: Path) -> None:
    assert needs(tmp_path, "apt-get install it") == tmp_path
