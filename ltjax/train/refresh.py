"""Work between steps: passes over a split and solvers, into the method state."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltjax.methods.method import Refresh
from ltjax.options import ConfigError, nearest
from ltjax.train.evaluate import make_collector, nobody_listens
from ltjax.train.lanes import Lanes


def make_refresher(
    run: Any,
    lanes: Lanes,
    shardings: Any,
    *,
    on_trace: Callable[[], Any] = lambda: None,
    beat: Callable[[str], Any] = nobody_listens,
) -> Callable[[int, Any], Any]:
    """`refresh(step, state) -> state` before the step, for all of a method's refreshes.

    Args:
        run: a `ltjax.train.run.Run`.
        lanes: its replicas.
        shardings: of the state.
        on_trace: called whenever something is traced.
        beat: called with what is being done.

    Returns:
        A function of the number of the step that comes next and the state before it.

    Raises:
        ConfigError: if a refresh goes over a split that the run does not have.
    """
    splits = {s.name: s for s in (run.train_set, *run.companions, *run.eval_sets)}
    work = []
    for one in run.method.refreshes:
        collect = None
        if one.gather is not None:
            if one.pool not in splits:
                raise ConfigError(
                    [
                        f"method {run.config.method.name!r} refreshes from the split"
                        f" {one.pool!r}, which the run does not have"
                        f"{nearest(one.pool, splits)}"
                    ]
                )
            collect = make_collector(
                _without_extra(one.gather),
                splits[one.pool],
                lanes,
                on_trace=on_trace,
                beat=beat,
            )
        apply = _on_device if one.on == "device" else _on_host
        work.append((one, collect, apply(one, lanes, shardings.method_state)))

    def refresh(step: int, state: Any) -> Any:
        for one, collect, apply in work:
            if one.due(step):
                beat("a refresh of the method")
                gathered = None if collect is None else collect(state)
                state = state.replace(method_state=apply(step, state, gathered))
        return state

    return refresh


def _without_extra(gather: Callable) -> Callable:
    return lambda state, batch, extra: gather(state, batch)


def _on_device(one: Refresh, lanes: Lanes, shardings: Any) -> Callable:
    programs: dict[bool, Callable] = {}

    def apply(step: int, state: Any, gathered: Any) -> Any:
        seen = gathered is not None
        if seen not in programs:
            traced = lanes.each(one.fn, (0, 0 if seen else None))
            programs[seen] = jax.jit(traced, out_shardings=shardings)
        if seen:
            whole = jax.tree.map(lambda _: lanes.layout.replicated, gathered)
            gathered = lanes.layout.place(gathered, whole)
        return programs[seen](state, gathered)

    return apply


def _on_host(one: Refresh, lanes: Lanes, shardings: Any) -> Callable:
    def apply(step: int, state: Any, gathered: Any) -> Any:
        old = lanes.layout.fetch(state.method_state)
        new = []
        with jax.transfer_guard("allow"):
            for r in range(lanes.count):
                own, seen = jax.tree.map(lambda x, r=r: x[r], (old, gathered))
                new.append(one.fn(own, seen, step=step))
        stacked = jax.tree.map(
            lambda o, *x: np.stack([np.asarray(v) for v in x]).astype(o.dtype),
            old,
            *new,
        )
        return lanes.layout.place(stacked, shardings)

    return apply
