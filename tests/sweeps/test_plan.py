"""Which points are replicas of one run."""

import pytest

from ltjax.config_file import UsageError
from ltjax.options import ConfigError
from ltjax.sweeps.grid import points_of
from ltjax.sweeps.plan import plan
from ltjax.train.lanes import replica_table

TAUS, SEEDS = ("0.5", "1", "1.5"), ("0", "1", "2")


@pytest.fixture(scope="module")
def make(maker):
    return maker(**{"loss.name": "la"})


def test_swept_options_and_seeds_are_replicas_of_one_program(make):
    (one,) = plan({"loss.tau": TAUS, "seed": SEEDS}, make, limit=9)
    table = replica_table(one.stages[0].config)
    found = [(row["hyper"]["loss.tau"], row["seed"]) for row in table]
    assert found == [(tau, seed) for tau in (0.5, 1.0, 1.5) for seed in (0, 1, 2)]


def test_what_makes_another_program_is_a_run_of_its_own(make):
    grid = {"batch_size": ("8", "16"), "loss.tau": TAUS, "model.hidden": ("(8,)",)}
    blocks = plan(grid, make)
    assert [block.stages[0].config.batch_size for block in blocks] == [8, 16]
    assert all(block.stages[0].config.model.hidden == (8,) for block in blocks)
    assert [block.varied for block in blocks] == [{"loss.tau": TAUS}] * 2
    assert [block.folder for block in blocks] == [
        "_batch_size=8_hidden=-8",
        "_batch_size=16_hidden=-8",
    ]


def test_an_option_is_a_replica_only_where_every_component_has_it(make):
    # Of both losses, and a number: but only one of them has a tau that is swept.
    grid = {"loss.name": ("la", "vs"), "loss.tau": TAUS, "augment.std": ("1", "2")}
    with pytest.raises(ConfigError, match=r"--grid augment\.std: .*is unknown"):
        plan(grid, make)
    # An int, and so static, although values are numbers and the key has a dot.
    blocks = plan({"data.subset_seed": ("1", "2"), "seed": ("0",)}, make)
    assert [block.stages[0].config.data.subset_seed for block in blocks] == [1, 2]


def test_every_point_is_planned_once_and_no_run_is_larger_than_the_limit(make):
    grid = {"optimizer.lr": ("0.1", "0.2"), "loss.tau": TAUS, "seed": SEEDS}
    for limit in (1, 2, 3, 5, 7, 18):
        blocks = plan(grid, make, limit=limit)
        points = [point for block in blocks for point in points_of(block.grid)]
        assert len(points) == len(set(points)) == 18
        assert set(points) == set(points_of(grid))
        sizes = [len(list(points_of(block.grid))) for block in blocks]
        assert max(sizes) <= limit
        counted = [len(replica_table(block.stages[0].config)) for block in blocks]
        assert counted == sizes


def test_the_config_s_own_seeds_count_as_replicas(maker):
    make = maker(**{"loss.name": "la", "replicas.seeds": (5, 6)})
    blocks = plan({"loss.tau": TAUS}, make, limit=4)
    assert [len(block.varied["loss.tau"]) for block in blocks] == [2, 1]
    assert blocks[0].stages[0].config.replicas.seeds == (5, 6)


def test_seeds_of_a_grid_are_seeds(maker):
    make = maker(**{"seed": 40, "replicas.seeds": (5, 6)})
    (one,) = plan({"seed": ("3", "1")}, make)
    table = replica_table(one.stages[0].config)
    assert [row["seed"] for row in table] == [3, 1]


def test_of_a_larger_grid_only_what_is_new_is_planned(make):
    old = set(points_of({"loss.tau": TAUS[:2], "seed": SEEDS[:2]}))
    grid = {"loss.tau": TAUS, "seed": SEEDS}
    blocks = plan(grid, make, skip=old)
    found = [dict(block.varied) for block in blocks]
    assert found == [
        {"loss.tau": ("0.5", "1"), "seed": ("2",)},
        {"loss.tau": ("1.5",), "seed": SEEDS},
    ]
    assert plan(grid, make, skip=set(points_of(grid))) == []


def test_stages_share_only_what_all_of_them_can_vary(maker):
    second = {"name": "second", "loss": {"name": "ce"}, "init_skip": ("head",)}
    make = maker(**{"loss.name": "la", "stages": ({"name": "first"}, second)})
    blocks = plan({"loss.tau": ("0.5", "1"), "optimizer.lr": ("0.1", "0.2")}, make)
    # The second stage has no tau: it takes another program, the rate does not.
    assert [dict(block.varied) for block in blocks] == [
        {"optimizer.lr": ("0.1", "0.2")}
    ] * 2
    assert [block.stages[0].config.loss.tau for block in blocks] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        (
            {"loss.tua": ("1",)},
            ConfigError,
            "--grid loss.tua: config.loss.tua is unknown; did you mean 'tau'?",
        ),
        (
            {"optimiser.lr": ("1",)},
            ConfigError,
            "--grid optimiser.lr: config.optimiser is unknown; did you mean 'opt",
        ),
        (
            {"loss.tau": ("0.5", "-1")},
            ConfigError,
            "--grid loss.tau: config.replicas.grid['loss.tau'] holds -1.0, expected a",
        ),
        (
            {"loss.name": ("la", "ladm")},
            ConfigError,
            "--grid loss.name: config.loss.name is 'ladm', unknown; did you mean 'ld",
        ),
        (
            {"batch_size": ("8", "0")},
            ConfigError,
            "--grid batch_size: config.batch_size is 0, expected a number >= 1",
        ),
        ({"batch_size": ("8", "many")}, UsageError, "--grid batch_size: "),
    ],
)
def test_errors_name_the_key_of_the_grid(make, grid, error, message):
    with pytest.raises(error) as refusal:
        plan(grid, make)
    assert message in str(refusal.value)
