"""3x3 convolutions on a CPU: layouts, algorithms, flags, versions, PyTorch.

    python -m experiments.bench.convolutions                        # ways and flags
    python -m experiments.bench.convolutions --torch-python PYTHON  # and PyTorch
    python -m experiments.bench.convolutions --jax-python PYTHON    # and another jax
    python -m experiments.bench.convolutions --quick                # small, prints only

The baseline is what the networks do: `lax.conv_general_dilated` with channels last and
XLA's default flags. Against it stand the ways of `convolution_ways.py`, flags of XLA,
other versions of jax and PyTorch, each environment in a process of its own, in turn
with the baseline; first every layer and pass on its own, then whole training steps of
ResNet-32 with the library's convolution.

A ratio is the time over the baseline's: below 1 is faster.
"""

import collections
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from experiments.bench import common
from experiments.bench.convolution_peer import PASSES, Job, Peer
from experiments.bench.convolution_ways import WAYS

TODAY = "library NHWC"
LAYERS = ((16, 32), (64, 8), (32, 16))  # channels, height and width
FORMATS = ("contiguous", "channels last")  # of PyTorch's memory
NO_YNN = "--xla_cpu_experimental_ynn_fusion_type=invalid"
ONEDNN = "--xla_cpu_experimental_onednn_custom_call=true"
FLAGS = {"no YNNPACK": NO_YNN}
# jaxlib 0.10 ignores the flag of oneDNN.
FLAGS_ELSEWHERE = {"oneDNN": ONEDNN, "oneDNN, no YNNPACK": f"{ONEDNN} {NO_YNN}"}


class Subject(NamedTuple):
    """A way in an environment: keys of `WAYS` and of the peers."""

    environment: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.environment}: {self.way}"


@contextlib.contextmanager
def started(args) -> Iterator[dict[str, Peer]]:
    """The processes by the name of their environment; all end with the block."""
    plans = {"jax": (sys.executable, "jax", {})}
    for name, flags in FLAGS.items():
        plans[f"jax, {name}"] = (sys.executable, "jax", {"XLA_FLAGS": flags})
    for python in args.jax_python:
        plans[f"jax of {python}"] = (python, "jax", {})
        for name, flags in FLAGS_ELSEWHERE.items():
            plans[f"jax of {python}, {name}"] = (python, "jax", {"XLA_FLAGS": flags})
    if args.torch_python:
        plans["torch"] = (args.torch_python, "torch", {})
    else:
        print("no --torch-python: PyTorch is left out", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        peers = {}
        for name, plan in plans.items():
            try:
                peer = Peer(*plan)
            except RuntimeError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            stack.callback(peer.close)
            version = peer.version
            if name.startswith("jax of "):
                name = f"jax {version}{name.removeprefix(f'jax of {plan[0]}')}"
            peers[name] = peer
        yield peers


def measure(
    peers: Mapping[str, Peer], job: Job, subjects: list[Subject], repeats: int
) -> list[dict[str, str]]:
    """A row per subject that runs, and one with `error` for each that does not."""
    origin, calls, errors = common.provenance(), {}, {}
    spent: dict[str, list[float]] = collections.defaultdict(list)

    def caller(subject: Subject) -> Callable[[], None]:
        run, own = peers[subject.environment].run, job._replace(way=subject.way)
        return lambda: spent[subject.name].append(run(own))

    for subject in subjects:
        call = caller(subject)
        try:
            call()  # compiles
            calls[subject.name] = call
        except RuntimeError as error:
            errors[subject.name] = str(error)
    today = Subject("jax", TODAY)
    ratios = common.interleaved_ratios(
        caller(today), calls, repeats=repeats, least_seconds=0.01
    )
    # The first call of each compiles.
    processor = {name: np.median(spent[name][1:]) for name in (today.name, *calls)}
    empty = dict.fromkeys(common.Ratio(0, 0, 0, 0, 0, 0, 0).columns(), "")
    rows = []
    for subject in subjects:
        found, in_torch = ratios.get(subject.name), subject.environment == "torch"
        version = peers[subject.environment].version
        row = {
            "pass": job.what,
            "batch": str(job.batch),
            "channels": str(job.channels),
            "size": str(job.size),
            "environment": subject.environment,
            "way": subject.way,
            **(found.columns() if found else empty),
            "ratio_fastest": f"{found.fastest:.3f}" if found else "",
            "ratio_processor_time": (
                f"{processor[subject.name] / processor[today.name]:.3f}"
                if found
                else ""
            ),
            "error": errors.get(subject.name, ""),
            "torch": version if in_torch else "",
            **origin,
            "jax": "" if in_torch else version,
        }
        rows.append(row)
        print(
            f"{job.what:15} {job.channels:3} {row['environment']:32} {row['way']:16}"
            f" {row['ratio']} ({row['ratio_low']} to {row['ratio_high']}; fastest"
            f" {row['ratio_fastest']}; processor {row['ratio_processor_time']})"
            f" {row['milliseconds']} ms {row['error']}",
            flush=True,
        )
    return rows


def subjects_of(job: Job, peers: Mapping[str, Peer]) -> list[Subject]:
    """Of a layer all ways; of a step the library's only; both in all environments."""
    ways = [way for way in WAYS if way != TODAY and job.what != "step"]
    others = [name for name in peers if name not in ("jax", "torch")]
    formats = FORMATS if "torch" in peers else ()
    return (
        [Subject("jax", way) for way in ways]
        + [Subject(name, TODAY) for name in others]
        + [Subject("torch", memory) for memory in formats]
    )


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="convolutions.csv")
    parser.add_argument("--only", choices=("layers", "step"), help="default both")
    parser.add_argument(
        "--torch-python", metavar="PYTHON", help="an interpreter that has torch"
    )
    parser.add_argument(
        "--jax-python",
        metavar="PYTHON",
        action="append",
        default=[],
        help="an interpreter that has another jax; may be repeated",
    )
    args = parser.parse_args()
    repeats = args.repeats or (1 if args.quick else 5)
    batch = 8 if args.quick else 128
    jobs = []
    if args.only != "step":
        layers = LAYERS[-1:] if args.quick else LAYERS
        jobs += [Job(what, TODAY, batch, *layer) for layer in layers for what in PASSES]
    if args.only != "layers":
        jobs.append(Job("step", TODAY, batch))
    with started(args) as peers:
        for job in jobs:
            rows = measure(peers, job, subjects_of(job, peers), repeats)
            if not args.quick:
                common.append_csv(args.output, rows)


if __name__ == "__main__":
    main()
