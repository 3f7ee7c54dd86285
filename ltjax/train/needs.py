"""What the engine asks of a combination of components, by their facts."""

from ltjax.options import nearest
from ltjax.train.config import TrainConfig
from ltjax.train.earlier import outputs_of
from ltjax.train.sections import SECTIONS


def combination_faults(c: TrainConfig) -> list[str]:
    """Faults of components that do not go together, by what they say of themselves."""
    method, rule, loss = c.method.facts, c.gradient.facts, c.loss.facts
    accumulates = c.optimizer.accumulate > 1
    faults = []
    coupled = method.couples_batch or (method.reads_loss and loss.couples_batch)
    what = f"loss {c.loss.name!r}" if loss.couples_batch else f"{c.method.name!r}"
    if rule.couples_batch:
        coupled, what = True, f"gradient {c.gradient.name!r}"
    if coupled and (accumulates or rule.groups_rows or rule.compacts):
        faults.append(
            f"{what} couples the rows of the batch: on micro-batches, groups of rows or"
            " some rows only it would be another loss; expected optimizer.accumulate ="
            " 1, gradient.scope = 'global' and no compaction"
        )
    if method.mixes and method.reads_loss and loss.compares_rows:
        faults.append(
            f"loss {c.loss.name!r} compares the rows of a batch, each with its class,"
            f" but method {c.method.name!r} as configured mixes examples of several,"
            " expected no mixup"
        )
    if accumulates and (rule.groups_rows or rule.compacts):
        faults.append(
            "config.optimizer.accumulate > 1 splits the batch by itself, expected"
            " gradient.scope = 'global' and no compaction"
        )
    if c.batch_size % c.optimizer.accumulate:
        faults.append(
            f"config.batch_size is {c.batch_size}, expected a multiple of"
            f" optimizer.accumulate = {c.optimizer.accumulate}"
        )
    if rule.has_auxiliary and not method.takes_auxiliary:
        faults.append(
            f"config.gradient.name is {c.gradient.name!r}, which adds a second loss,"
            f" but method {c.method.name!r} has no place for it"
        )
    if method.reads_loss and loss.remembers and not method.takes_memory:
        faults.append(
            f"config.loss.name is {c.loss.name!r}, which keeps something between steps,"
            f" but method {c.method.name!r} has no place for it"
        )
    if method.reads_loss and method.multi_label != loss.multi_label:
        several, one = "several labels", "one label"
        faults.append(
            f"config.loss.name is {c.loss.name!r}, a loss of"
            f" {several if loss.multi_label else one} per example, but method"
            f" {c.method.name!r} has {several if method.multi_label else one}"
        )
    if c.evaluate_ema and not c.ema_decay:
        faults.append("config.evaluate_ema is set, but ema_decay is 0")
    if c.init_skip and not c.init_from:
        faults.append("config.init_skip is set, but init_from is empty")
    return (
        faults
        + _unread(c)
        + _head_needs(c)
        + _dense_needs(c)
        + _pixel_needs(c)
        + _supervision_needs(c)
        + _column_needs(c)
    )


def _unread(c: TrainConfig) -> list[str]:
    """Losses and class weights that would be ignored without a word."""
    method = c.method.facts
    read = {"loss": method.reads_loss, "weights": method.reads_weights}
    return [
        f"config.{path}.name is {c.sections[path].name!r}, but method"
        f" {c.method.name!r} does not read it, expected {SECTIONS[path].default!r}"
        for path, reads in read.items()
        if not reads and c.sections[path].name != SECTIONS[path].default
    ]


def _head_needs(c: TrainConfig) -> list[str]:
    method, loss = c.method.facts, c.loss.facts
    if method.head:
        allowed, owner = (method.head,), f"method {c.method.name!r}"
    elif method.reads_loss:
        allowed, owner = (loss.head, *loss.heads), f"loss {c.loss.name!r}"
    else:
        return []
    if c.head.name in allowed:
        return []
    return [
        f"config.head.name is {c.head.name!r}, but {owner} needs"
        f" {' or '.join(map(repr, allowed))} (or 'auto')"
    ]


def _dense_needs(c: TrainConfig) -> list[str]:
    """A network with a feature for every pixel goes with a method of pixels."""
    if c.method.facts.dense == c.model.facts.dense:
        return []
    wanted = "a feature for every pixel" if c.method.facts.dense else "one per example"
    return [
        f"config.model.name is {c.model.name!r}, but method {c.method.name!r} needs a"
        f" network that gives {wanted}"
    ]


def _pixel_needs(c: TrainConfig) -> list[str]:
    """What belongs to a pixel has to stay with it when the augmentation moves it."""
    told, pixels = c.augment.facts, c.method.facts.pixel_columns
    name, faults = f"config.augment.name is {c.augment.name!r}", []
    for column in pixels if told.moves else ():
        if column not in told.carries:
            faults.append(
                f"{name}, which moves pixels and leaves the column {column!r} of method"
                f" {c.method.name!r} where it was, expected one that carries it"
                " along or moves no pixels"
            )
    for column in told.carries:
        if column not in pixels:
            faults.append(
                f"{name}, which moves the column {column!r} with the pixels, but method"
                f" {c.method.name!r} reads no such column"
            )
    return faults


def _supervision_needs(c: TrainConfig) -> list[str]:
    """Streams, columns and views that the method needs and the data do not have."""
    method, faults = c.method.facts, []
    streams = c.unlabelled.facts.names
    if method.companions and not streams:
        faults.append(
            f"method {c.method.name!r} needs a second, unlabelled stream, but"
            f" config.unlabelled.name is {c.unlabelled.name!r}"
        )
    if streams and not method.companions:
        faults.append(
            f"config.unlabelled.name is {c.unlabelled.name!r}, but method"
            f" {c.method.name!r} does not read a second stream, expected 'none'"
        )
    if c.pseudo_labels.facts.changes and not method.treats_guesses:
        faults.append(
            f"config.pseudo_labels.name is {c.pseudo_labels.name!r}, but method"
            f" {c.method.name!r} guesses no labels that could be treated, expected"
            " 'none'"
        )
    hiding = [path for path in ("labels", "data") if c.sections[path].facts.hidden]
    if hiding:
        for path in ("method", "sampler", "weights", "gradient"):
            chosen = c.sections[path]
            if chosen.facts.reads_labels:
                faults.append(
                    f"config.{path}.name is {chosen.name!r}, which needs the class of"
                    f" each example, but config.{hiding[0]}.name"
                    f" {c.sections[hiding[0]].name!r} hides it"
                )
    for column in method.columns:
        if column not in _known_columns(c):
            faults.append(
                f"method {c.method.name!r} needs the column {column!r}, which neither"
                f" data {c.data.name!r} nor labels {c.labels.name!r} has"
            )
    views = c.augment.facts.views
    for view in method.views:
        if view not in views:
            faults.append(
                f"method {c.method.name!r} needs the view {view!r}, but"
                f" config.augment.name {c.augment.name!r} makes {', '.join(views)}"
            )
    if not method.views and "inputs" not in views:
        faults.append(
            f"config.augment.name is {c.augment.name!r}, which makes"
            f" {', '.join(views)}, but method {c.method.name!r} reads 'inputs'"
        )
    return faults


def _known_columns(c: TrainConfig) -> set[str]:
    return {*c.labels.facts.columns, *c.data.facts.columns, *c.columns_from}


def _column_needs(c: TrainConfig) -> list[str]:
    """Columns of earlier runs, and those that `only` goes by."""
    faults = []
    for name, text in c.columns_from.items():
        try:
            outputs_of(text)
        except ValueError as error:
            faults.append(f"config.columns_from.{name}: {error}")
    for column in c.only:
        if column not in (known := _known_columns(c)):
            faults.append(
                f"config.only has the column {column!r}, unknown"
                f"{nearest(column, known)}"
            )
    return faults
