"""Test settings: eight CPU devices, strict promotion of ranks, quick compilation."""

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent

# For the tests and the processes that they start. A program runs a few steps only, so
# XLA shall compile it fast, not well. Its newer emitters set up an MLIR context for
# each program, which is a third of the work on a small one. Under the older ones the
# last bit may depend on which multiplications and additions are fused; AVX fuses none.
# However small, a program is kept on disk for the other worker, and for this one after
# its memory was bounded.
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "LTJAX_SMOKE": "1",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Tracing allocates many short-lived objects, so collect cycles less often.
gc.set_threshold(50_000, 20, 20)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def tfds_dir() -> pathlib.Path | None:
    """Where prepared TFDS folders lie, or None (such tests are skipped)."""
    named = os.environ.get("LTJAX_DATA_DIR")
    for place in [named] if named else [ROOT.parent / "shared" / "data" / "tfds"]:
        if place and (pathlib.Path(place) / "mnist").is_dir():
            return pathlib.Path(place).resolve()
    return None


@pytest.fixture(scope="session")
def mnist_dir() -> pathlib.Path:
    """The TFDS data directory that holds MNIST."""
    place = tfds_dir()
    if place is None:
        pytest.skip(
            "no prepared MNIST: set LTJAX_DATA_DIR to a TFDS folder that holds mnist/"
        )
    return place


@pytest.fixture
def interpreter(tmp_path):
    """`interpreter(source) -> path` of a Python that runs these lines, whatever for."""

    def make(source: str) -> str:
        script, program = tmp_path / "script.py", tmp_path / "python"
        script.write_text(source)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        program.chmod(0o755)
        return str(program)

    return make


def _resident_gigabytes() -> float:
    """Of this process now; 0 where the system does not say."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    # Programs of a module serve no other one, but small operations do, so that they
    # are kept as long as there is room. glibc keeps what was freed until it is told to
    # trim; without that, there would never be room again.
    yield
    if _resident_gigabytes() > 1.4:
        jax.clear_caches()
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)


@pytest.fixture
def x64():
    """float64 for the duration of one test."""
    from ltjax._numerics import double_precision

    with double_precision():
        yield


@pytest.fixture(scope="session", autouse=True)
def _absl_flags_parsed():
    # grain's worker processes read absl flags, which nobody parses under pytest.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from absl import flags
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def tiny_config() -> pathlib.Path:
    """The config file of the tests' runs."""
    return ROOT / "tests" / "tiny_config.py"


@pytest.fixture(scope="session")
def tiny(tiny_config):
    """`tiny({"optimizer.lr": 0.1}) -> TrainConfig`: that run with changes, checked."""
    spec = importlib.util.spec_from_file_location("ltjax_tiny_config", tiny_config)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(changes=()):
        from ltjax.train.check import check

        return check(module.get_config(json.dumps(dict(changes))))

    return make


@pytest.fixture(scope="session")
def devices():
    """`with devices(n)`: what is built inside sees the first n devices only."""
    real = jax.devices

    @contextlib.contextmanager
    def limited(count):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda *args: real(*args)[:count])
            yield

    return limited


@pytest.fixture(scope="session")
def train(tiny, devices, tmp_path_factory):
    """`train(changes, count=1, workdir=..., edit=...) -> Result` of a tiny run.

    `count` is the number of devices, `edit` maps the built `Run` to the trained one.
    """

    def go(changes=(), *, count=1, workdir=None, edit=lambda run: run):
        from ltjax.train import loop
        from ltjax.train.build import build

        with devices(count):
            built = edit(build(tiny(changes)))
            workdir = workdir or tmp_path_factory.mktemp("run")
            return loop.run(built, workdir, tensorboard=False)

    return go


def _raw(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.fixture(scope="session")
def assert_same():
    """`assert_same(a, b, rtol=0, atol=0)`: trees alike; bit for bit by default."""

    def check(a, b, *, rtol=0.0, atol=0.0):
        left = jax.tree_util.tree_flatten_with_path(a)[0]
        right = jax.tree_util.tree_flatten_with_path(b)[0]
        assert [path for path, _ in left] == [path for path, _ in right]
        for (path, x), (_, y) in zip(left, right, strict=True):
            name = jax.tree_util.keystr(path)
            x, y = _raw(x), _raw(y)
            assert x.shape == y.shape and x.dtype == y.dtype, name
            if rtol or atol:
                np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=name)
            else:
                np.testing.assert_array_equal(x, y, err_msg=name)

    return check


@pytest.fixture(scope="session")
def records():
    """`records(workdir) -> [record]` of metrics.jsonl, without what a clock decides.

    Nor their checksums, in which the clock is.
    """

    def read(workdir):
        text = pathlib.Path(workdir, "metrics.jsonl").read_text()
        return [without_time(json.loads(line)) for line in text.splitlines()]

    def without_time(record):
        timed = [k for k in record if k.startswith("time/")]
        kept = {k: v for k, v in record.items() if k not in (*timed, "crc32")}
        for part in ("std", "replicas"):
            if part in kept:
                kept[part] = without_time(kept[part])
        return kept

    return read


@pytest.fixture
def ltjax(capsys, monkeypatch):
    """`ltjax(*argv) -> (exit code, out, err)` in this process."""
    monkeypatch.delenv("LTJAX_TRACEBACK", raising=False)

    from ltjax.cli import main

    def go(*argv):
        code = main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go
