"""The benchmark of convolutions: all its ways compute the same sums."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    """Imports experiments.bench.<name>."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"experiments.bench.{name}")


def direct(x, w):
    """The definition, in float64: x [N, H, W, C], w [3, 3, C, K], padded by 1."""
    x, w = (
        np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]).astype(np.float64),
        w.astype(float),
    )
    high, wide = x.shape[1] - 2, x.shape[2] - 2
    return sum(
        x[:, i : i + high, j : j + wide] @ w[i, j] for i in range(3) for j in range(3)
    )


NAMES = (
    "library NHWC",
    "library NCHW",
    "library CHWN",
    "patches NHWC",
    "im2col NHWC",
    "im2col CHWN",
    "shifted NHWC",
    "shifted CHWN",
    "rows NHWC",
    "rows CHWN",
    "winograd 2 CHWN",
    "winograd 4 CHWN",
    "winograd 4 NHWC",
)


def test_all_ways_are_tested(bench):
    assert tuple(bench("convolution_ways").WAYS) == NAMES


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "winograd" in name else ())
        for name in NAMES
    ],
)
def test_a_way_is_the_convolution_and_its_gradients(bench, name):
    way = bench("convolution_ways").WAYS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 4, 3)).astype(np.float32)
    w = rng.normal(size=(3, 3, 3, 5)).astype(np.float32)
    g = rng.normal(size=(2, 8, 4, 5)).astype(np.float32)
    there = ["NHWC".index(axis) for axis in way.layout]
    back = [way.layout.index(axis) for axis in "NHWC"]
    moved = x.transpose(there), g.transpose(there)

    y = jax.jit(way.forward)(moved[0], w)
    by_input = jax.jit(way.input_gradient)(w, moved[1])
    by_weight = jax.jit(way.weight_gradient)(*moved)

    np.testing.assert_allclose(y.transpose(back), direct(x, w), rtol=1e-5, atol=1e-4)
    turned = w[::-1, ::-1].swapaxes(2, 3)
    expected = direct(g, turned)
    np.testing.assert_allclose(by_input.transpose(back), expected, rtol=1e-5, atol=1e-4)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]).astype(np.float64)
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + 8, j : j + 4]
            expected = np.einsum("nhwc,nhwk->ck", window, g)
            np.testing.assert_allclose(by_weight[i, j], expected, rtol=1e-5, atol=2e-4)


@pytest.mark.slow
def test_a_step_lowers_the_loss_of_its_batch(bench):
    make_step = bench("convolution_network").make_step
    step, state = make_step(4, np.random.default_rng(0))
    losses = []
    for _ in range(4):
        state, loss = step(state)
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_process_computes_what_it_can_and_says_what_it_cannot(bench):
    peers = bench("convolution_peer")
    job = peers.Job("forward", "library NHWC", batch=1, channels=2, size=4)
    peer = peers.Peer(sys.executable, "jax")
    try:
        assert peer.version == jax.__version__
        assert peer.run(job) > 0
        with pytest.raises(RuntimeError, match="no such way"):
            peer.run(job._replace(way="no such way"))
        peer.run(job)  # it is still there
    finally:
        peer.close()


def test_a_process_that_stops_is_an_error(bench):
    peers = bench("convolution_peer")
    job = peers.Job("forward", "library NHWC", batch=1, channels=2, size=4)
    peer = peers.Peer(sys.executable, "jax", {"XLA_FLAGS": "--no_such_flag=1"})
    try:
        with pytest.raises(RuntimeError, match="the process stopped"):
            peer.run(job)
    finally:
        peer.close()


def test_rows_have_a_ratio_or_say_why_not(bench):
    script = bench("convolutions")

    class Fake:
        version = "1.2"

        def run(self, job):
            if job.way == "shifted NHWC":
                raise RuntimeError("out of memory")
            return 0.5 if job.way == "rows NHWC" else 0.25

    job = script.Job("forward", script.TODAY, 128, 16, 32)
    peers = {"jax": Fake(), "jax, some flag": Fake(), "torch": Fake()}
    subjects = script.subjects_of(job, peers)
    rows = script.measure(peers, job, subjects, repeats=1)
    assert len(rows) == len(NAMES) - 1 + 1 + 2
    assert len({tuple(row) for row in rows}) == 1  # equal columns
    by_way = {row["way"]: row for row in rows if row["environment"] == "jax"}
    assert by_way["rows NHWC"]["ratio_processor_time"] == "2.000"
    assert by_way["im2col NHWC"]["ratio_processor_time"] == "1.000"
    failed = by_way["shifted NHWC"]
    assert failed["error"] == "out of memory" and failed["ratio"] == ""
    of_torch = [row for row in rows if row["environment"] == "torch"]
    assert [row["torch"] for row in of_torch] == ["1.2", "1.2"]
    assert of_torch[0]["jax"] == "" and by_way["rows NHWC"]["jax"] == "1.2"

    step = script.subjects_of(script.Job("step", script.TODAY, 128), peers)
    assert {s.way for s in step} == {script.TODAY, *script.FORMATS}


def test_the_page_shows_the_newest_row_of_each_way(bench, tmp_path):
    tables = bench("convolution_tables")
    header = (
        "pass,channels,environment,way,ratio,ratio_low,ratio_high,ratio_fastest,"
        "ratio_processor_time,error,torch,date,commit,jax,device,cores"
    )
    rows = (
        "forward,16,jax 0.12,library NHWC,9,9,9,9,9,,,d,c,0.12,CPU,2",
        "forward,16,jax 0.13,library NHWC,1,1,1,1,0.5,,,d,c,0.13,CPU,2",
        'forward,16,"jax 0.13, flag",library NHWC,1,1,1,1,0.25,,,d,c,0.13,CPU,2',
        "forward,16,torch,channels last,1,1,1,1,0.75,,2.9+cpu,d,c,,CPU,2",
        "weight_gradient,64,jax,rows NHWC,1,1,1,1,1.25,,,d,c,0.10,CPU,2",
        "forward,64,jax,rows NHWC,,,,,,does not run,,d,c,0.10,CPU,2",
        "step,,jax 0.13,library NHWC,0.9,0.8,1.1,0.85,1,,,d,c,0.13,CPU,2",
    )
    (tmp_path / "convolutions.csv").write_text("\n".join([header, *rows]))
    page = tmp_path / "page.md"
    page.write_text(
        "".join(
            f"<!-- {name}: begin -->\n<!-- {name}: end -->\n"
            for name in ("layers", "steps", "made")
        )
    )
    tables.write(tmp_path, page)
    shown = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]
    assert shown[2:6] == [
        ["rows NHWC", *[""] * 8, "1.25"],
        ["jax 0.13", "0.50", *[""] * 8],
        ["jax 0.13, flag", "0.25", *[""] * 8],
        ["PyTorch 2.9, channels last", "0.75", *[""] * 8],
    ]
    assert shown[-1] == ["jax 0.13", "0.9", "0.8 to 1.1", "0.85", "1"]
