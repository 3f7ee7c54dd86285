"""The grid: a diffusion network for each seed, steered by every technique."""

from experiments.grid import Point
from experiments.seeded import SEEDS, Claim, seed_rows, shipped_point, train_seeds

NONE, TECHNIQUES = "none", ("pseudo", "control", "low_rank")
TITLES = {
    NONE: "none",
    "pseudo": "guessed class (prompt)",
    "control": "edges (control branch)",
    "low_rank": "corrections of low rank",
}
CASE = "up1_50"  # layer and noise level of the features
# Column -> metric; {} stands for the technique.
METRICS = {
    "closeness": "drift_{}",
    "alignment": "content_shift_{}",
    "edge_f1": "edge_f1_{}",
    "probe": f"probe_{{}}_{CASE}",
    "probe_many": f"probe_{{}}_{CASE}_many",
    "probe_few": f"probe_{{}}_{CASE}_few",
}
ONE_MINUS = ("closeness", "alignment")  # of a drift or a shift
STEPS = {"pretrain": "1000 steps", "low_rank": "100 steps", "control": "300 steps"}


def points(*, smoke: bool = False) -> list[Point]:
    """A point for each seed; its stages share the long-tailed subset."""
    found = []
    for seed in SEEDS[:1] if smoke else SEEDS:
        key = {"data": "glyphs", "seed": seed}
        arg = "method=steered,data=glyphs"
        total = STEPS["pretrain"]
        point = shipped_point(key, "diffusion_digits", arg, smoke=smoke, total=total)
        config = point.config
        config.replicas.seeds = (seed,)
        if not smoke:
            config.model.width = 8
            config.data.train_per_class = 300
            config.stages = tuple(
                {**stage, "total": STEPS[stage["name"]]} for stage in config.stages
            )
        found.append(point)
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: a row for each technique."""
    trained = train_seeds(point.config)
    rows = []
    for technique in (NONE, *TECHNIQUES):
        values = {}
        for column, metric in METRICS.items():
            value = trained.metric(f"eval/test/{metric.format(technique)}")
            values[column] = 1 - value if column in ONE_MINUS else value
        own = point._replace(key={**point.key, "technique": technique})
        rows += seed_rows(own, trained, values)
    return rows


CLAIMS = [
    Claim(text, TITLES[name], {"technique": name}, {"technique": NONE}, column)
    for name in TECHNIQUES
    for text, column in (
        ("regenerated closer to the image", "closeness"),
        ("features closer to the clean ones", "alignment"),
        ("better features", "probe"),
        ("better features of rare classes", "probe_few"),
    )
]
