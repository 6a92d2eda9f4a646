from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# TensorFlow's start-up chatter would bury the test report.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A busy machine is no failed test, and CI must not fail by luck of the draw.
settings.register_profile("decode-zoo", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("decode-zoo")

# A shell without job control starts what it puts in the background with Ctrl-C ignored, and all
# that it starts inherits that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("no shared/ folder beside the checkout")


@pytest.fixture
def shared() -> Path:
    """The folder of raw data beside the checkout; for tests marked ``shared``."""
    return SHARED


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache, mirrors, registries or offline switch, nor .ci's variables."""
    for name in [name for name in os.environ if name.startswith("DECODE_ZOO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str, str]]:
    """Run the command line in this process: exit code, standard output, standard error."""
    from decode_zoo.cli import main

    def call(*args: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["decode-zoo", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code, out, err

    return call
