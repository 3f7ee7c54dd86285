"""The grids of the three tables, the most telling settings first."""

from typing import Any, NamedTuple

from configs.semi_lt import COUNTS
from experiments.grid import Point
from experiments.seeded import Claim, metric_rows, shipped_point
from ltjax.data.unlabelled import semi_supervised_counts

TOTAL = "1500 steps"  # of every run, and of RCAL's first stage
TUNING = "400 steps"  # of Sel-CL's second stage
GROUPS = {
    "balanced_accuracy": "all",
    "many": "many",
    "medium": "medium",
    "few": "few",
}


class Table(NamedTuple):
    """A table of the README.

    Attributes:
        family: its config file.
        title: heading.
        methods: name -> arguments of the config file.
        settings: (ratio, name) -> arguments of the config file.
        free: methods that are the same in every setting of a ratio.
    """

    family: str
    title: str
    methods: dict[str, str]
    settings: dict[tuple[int, str], str]
    free: tuple[str, ...] = ()


TABLES = {
    "semi": Table(
        "semi_lt",
        "Semi-supervised learning",
        {
            "labelled only": "method=supervised",
            "FixMatch": "method=fixmatch",
            "DARP": "method=darp",
            "ABC": "method=abc",
            "CReST+": "method=crest_plus",
            "DASO": "method=daso",
            "ACR": "method=acr",
            "SimPro": "method=simpro",
            "CoSSL": "method=cossl",
            "MixMatch": "method=mixmatch",
            "ReMixMatch": "method=remixmatch",
            "DARP, ten passes": "method=darp",
            "DARP, estimated masses": "method=darp",
            "DARP, true masses": "method=darp",
            "ABC, expected masks": "method=abc",
            "FixMatch + RECORDS": "method=dynamic_prior",
        },
        {
            (100, profile): f"imf=100,imf_u=100,profile={profile}"
            for profile in ("consistent", "reversed", "uniform")
        },
        free=("labelled only",),
    ),
    "partial": Table(
        "partial_lt",
        "Partial labels",
        {
            **{
                f"{name.upper()}{' + RECORDS' if records else ''}": (
                    f"method={name},records={records}"
                )
                for name in ("proden", "lw", "cavl", "corr")
                for records in (False, True)
            },
            "SoLar": "method=solar",
        },
        {
            (ratio, f"q = {q}"): f"imf={ratio},q={q}"
            for ratio in (100, 50)
            for q in (0.5, 0.3)
        },
    ),
    "noisy": Table(
        "noisy_lt",
        "Noisy labels",
        {
            "ERM": "method=supervised",
            "LA": "method=supervised,loss=la",
            "Co-teaching": "method=coteaching",
            "CDR": "method=cdr",
            "HAR-DRW": "method=har,loss=ce_drw",
            "RoLT": "method=rolt",
            "RoLT-DRW": "method=rolt,drw",
            "Sel-CL+": "method=sel_cl",
            "RCAL": "method=rcal",
            "RCAL without MoCo": "method=rcal,pretrain=false",
            "RCAL, bound": "method=rcal",
            "RCAL, posterior": "method=rcal",
        },
        {
            (ratio, f"{rate:.0%} wrong"): f"imf={ratio},rate={rate}"
            for ratio in (100, 10)
            for rate in (0.4, 0.2)
        },
    ),
}
# Options beside the published behavior, or the published one beside ours.
CHANGES = {
    "DARP, ten passes": {"pseudo_labels.solver": "coordinate"},
    "DARP, estimated masses": {"pseudo_labels.masses": "em"},
    "ABC, expected masks": {"method.masks": "expected"},
    "RCAL, bound": {"method.virtual": "bound"},
    "RCAL, posterior": {"method.believes": "posterior"},
}
# Is told what no method knows, to see what an estimate is short of.
TOLD = "DARP, true masses"
FREE = "any"  # the setting of a method for which all are the same
LATE = ("CoSSL", "MixMatch", "ReMixMatch")  # run when the rest is done


def shorten_stages(config: Any) -> None:
    """The durations of a run of two stages."""
    if config.stages:
        config.stages[0]["total"] = TOTAL
        if "total" in config.stages[1]:
            config.stages[1]["total"] = TUNING


def changes_of(method: str, ratio: int, setting: str) -> dict[str, Any] | None:
    """Options by dotted name."""
    if method != TOLD:
        return CHANGES.get(method)
    counts = semi_supervised_counts(10, COUNTS["mnist1d"][1], ratio, setting)
    return {
        "pseudo_labels.masses": "given",
        "pseudo_labels.counts": tuple(counts.tolist()),
    }


def points(*, smoke: bool = False) -> list[Point]:
    """Every run of the three tables."""
    found: list[tuple[tuple, Point]] = []
    for name, table in TABLES.items():
        for method, arg in table.methods.items():
            for k, ((ratio, setting), where) in enumerate(table.settings.items()):
                free = method in table.free
                if free and k:
                    continue
                key = {"table": name, "ratio": ratio, "method": method}
                key["setting"] = FREE if free else setting
                arguments = f"{arg},{'imf=100' if free else where}"
                changes = changes_of(method, ratio, setting)
                point = shipped_point(
                    key, table.family, arguments, changes, smoke=smoke, total=TOTAL
                )
                if not smoke:
                    shorten_stages(point.config)
                found.append(((method in LATE, k), point))
    return [point for _, point in sorted(found, key=lambda pair: pair[0])]


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: accuracy on the balanced test set, by class group."""
    return metric_rows(point, {name: f"eval/test/{name}" for name in GROUPS})


def _claims(name: str, pairs: list[tuple[str, str, str]]) -> list[Claim]:
    """(better, worse, metric) in every setting of a table."""
    found = []
    for better, worse, metric in pairs:
        for ratio, setting in TABLES[name].settings:
            sides = []
            for method in (better, worse):
                own = FREE if method in TABLES[name].free else setting
                key = {"table": name, "ratio": str(ratio), "method": method}
                sides.append({**key, "setting": own})
            text = f"{better} above {worse}"
            found.append(Claim(text, f"ratio {ratio}, {setting}", *sides, metric))
    return found


ALL = "balanced_accuracy"
CLAIMS = {
    "semi": _claims(
        "semi",
        [
            ("FixMatch", "labelled only", ALL),
            *(
                (method, "FixMatch", metric)
                for method in ("DARP", "ABC", "CReST+", "DASO", "ACR", "SimPro")
                for metric in (ALL, "few")
            ),
        ],
    ),
    "partial": _claims(
        "partial",
        [
            *((f"{m} + RECORDS", m, ALL) for m in ("PRODEN", "LW", "CAVL", "CORR")),
            ("CORR", "PRODEN", ALL),
            ("SoLar", "CORR", ALL),
            ("CORR + RECORDS", "SoLar", ALL),
        ],
    ),
    "noisy": _claims(
        "noisy",
        [
            ("RCAL", "ERM", ALL),
            ("RCAL", "RCAL without MoCo", ALL),
            ("RCAL", "RoLT-DRW", ALL),
            ("HAR-DRW", "ERM", ALL),
            ("Sel-CL+", "ERM", ALL),
            ("RCAL", "Sel-CL+", ALL),
            ("RoLT", "ERM", ALL),
            ("RoLT-DRW", "RoLT", ALL),
            ("ERM", "Co-teaching", ALL),
        ],
    ),
}
# What the options of `CHANGES` and the treatment that no paper has come to.
OURS = {
    "semi": _claims(
        "semi",
        [
            ("DARP", "DARP, ten passes", ALL),
            ("DARP, estimated masses", "DARP", ALL),
            ("DARP, estimated masses", "DARP", "few"),
            (TOLD, "FixMatch", ALL),
            (TOLD, "FixMatch", "few"),
            ("ABC, expected masks", "ABC", ALL),
            ("ABC, expected masks", "ABC", "few"),
            ("FixMatch + RECORDS", "FixMatch", ALL),
            ("FixMatch + RECORDS", "FixMatch", "few"),
        ],
    ),
    "noisy": _claims(
        "noisy", [("RCAL, bound", "RCAL", ALL), ("RCAL, posterior", "RCAL", ALL)]
    ),
}
