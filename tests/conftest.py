from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from decode_zoo import FeatureSet, Model
    from decode_zoo.cohort.expression import Targets

# TensorFlow's start-up chatter would bury the test report.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Some tests import ONNX Runtime themselves (see `runtime.import_onnxruntime`).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A busy machine is no failed test, and CI must not fail by luck of the draw.
settings.register_profile("decode-zoo", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("decode-zoo")

# A shell without job control starts what it puts in the background with Ctrl-C ignored, and all
# that it starts inherits that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"
TOY = Path(__file__).parent / "data/toy"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("no shared/ folder beside the checkout")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of raw data beside the checkout; for tests marked ``shared``."""
    return SHARED


@pytest.fixture(scope="session")
def toy() -> Path:
    """The folder of the toy zoo (`tests.toy`); not to be written to."""
    return TOY


@pytest.fixture(scope="session")
def toy_models() -> dict[str, Model]:
    """The models of the toy zoo by family, ``decode`` and ``perceptron``."""
    import decode_zoo as dz

    features = dz.load_features(TOY / "features/toy-sites-v1")

    def opened(folder: Path) -> Model:
        return dz.Model.open(lambda name: folder / name, lambda _: features)

    names = ("decode", "perceptron")
    return {name: opened(TOY / f"models/toy-{name}-v1") for name in names}


@pytest.fixture(scope="session", params=["decode", "perceptron"])
def toy_model(request: pytest.FixtureRequest, toy_models: dict[str, Model]) -> Model:
    """A model of the toy zoo; a test that takes it runs with one of each family."""
    return toy_models[request.param]


@pytest.fixture
def toy_zoo(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the toys be found by their ids, in Python and on the command line."""
    monkeypatch.setenv("DECODE_ZOO_REGISTRY", str(toy / "registry.yaml"))
    return toy


@pytest.fixture(scope="session")
def made_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with the made-up feature set of `tests.made`; not to be written to."""
    from tests import made

    folder = tmp_path_factory.mktemp("made-zoo")
    made.make_zoo(folder)
    return folder


@pytest.fixture(scope="module")
def features(made_zoo: Path) -> Iterator[FeatureSet]:
    """The made-up feature set, which the module's tests find by its id too."""
    from decode_zoo import FeatureSet
    from tests import made

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECODE_ZOO_REGISTRY", str(made_zoo / "registry.yaml"))
        yield FeatureSet.load(made_zoo / "features" / made.ID)


@pytest.fixture(scope="module")
def targets(features: FeatureSet) -> Targets:
    """Made-up expression of its genes."""
    from tests import made

    return made.make_expression(features)


@pytest.fixture(scope="session")
def made_model(made_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A perceptron that was trained on the made-up genes, on chromosome 1 tested."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    from decode_zoo import FeatureSet
    from tests import made

    features = FeatureSet.load(made_zoo / "features" / made.ID)
    return made.train_perceptron(features, tmp_path_factory.mktemp("made-model") / "sums-v1")


@pytest.fixture(scope="session", autouse=True)
def usual_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where decode-zoo keeps files if nobody names a place: not the user's, and out of bounds.

    For the whole session, because fixtures of modules are made before those of a test. None of
    them sees the user's cache, mirrors, registries or offline switch, nor .ci's variables, nor the
    machine's proxies and certificates: all servers are on loopback.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith("DECODE_ZOO_") or name.upper().endswith(
                ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE")
            ):
                patch.delenv(name)
        patch.setenv("DECODE_ZOO_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home-cache")))
        yield Path(os.environ["XDG_CACHE_HOME"], "decode-zoo")


@pytest.fixture(autouse=True)
def own_store(
    usual_cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each test has a cache of its own, and writes nowhere else."""
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    if usual_cache.exists():
        found = [str(path) for path in usual_cache.rglob("*")]
        shutil.rmtree(usual_cache)
        pytest.fail(f"written to the user's cache: {', '.join(found) or 'a folder'}")


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
