"""A config for your own data: what training needs, chosen from the data.

Every choice is an ordinary option of the config, so that `--config.x.y` can change it,
and is stored with the run.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.components import stored_of
from ltjax.data.image_sizes import ImageSizes, image_sizes, joined
from ltjax.data.own import Stored
from ltjax.data.readers import DataError, FileReader
from ltjax.data.source import Source
from ltjax.finetune import apply_finetune, choose_published, described, rounded
from ltjax.models.published import Published
from ltjax.options import ConfigError, nearest
from ltjax.own_places import (
    choose_splits,
    chosen_data,
    data_name,
    data_section,
    given_tables,
    training_source,
)
from ltjax.own_supervision import (
    AUTO,
    METHODS,
    choose_method,
    choose_reading,
    labelled_counts,
)
from ltjax.train.config import default_config

_LOG = logging.getLogger(__name__)

PHOTO_SIZE = 224  # side of what a network sees of larger images, in pixels
SMALL_SIZE = 96  # from this side on ImageNet networks, below those for CIFAR
STEPS = 3000  # of a run, within MIN_EPOCHS and MAX_EPOCHS
MIN_EPOCHS, MAX_EPOCHS = 10, 200
MIN_BATCH, MAX_BATCH = 8, 128
STEPS_PER_EPOCH = 16  # at least, of what the batch size allows
RESIDENT_BYTES = 1 << 30  # of inputs that are kept on the device
STATISTICS_SAMPLE = 2048  # examples that mean and deviation are measured on


class Sides(NamedTuple):
    """How images are brought to one size.

    Attributes:
        stored: side of the squares that are read; 0 = as they are.
        seen: side of what the network sees; 0 = as they are.
    """

    stored: int = 0
    seen: int = 0


def own_config(
    data: str,
    *,
    test: str = "",
    method: str = AUTO,
    model: str = AUTO,
    image_size: int = 0,
    epochs: int = 0,
    label: str = "",
    pretrained: str = "",
    finetune: str = "",
    devices: int = 1,
    sides: Sides | None = None,
) -> Any:
    """The config of a run on your own data.

    Args:
        data: folder of images by class, table, .npz file or "tfds:NAME".
        test: likewise; "" = found beside the training data, or split off.
        method: a key of `ltjax.methods.presets.PRESETS`, of `MULTI_LABEL` there for
            several labels per example, or of `ltjax.methods.weak_presets.WEAK`; "auto"
            = la, tkpr, fixmatch for examples without a label, proden for candidates.
        model: a name of `ltjax list models`; "auto" = by the shape of the inputs.
        image_size: side of what the network sees of images; 0 = chosen by their sizes.
        epochs: length of the run; 0 = chosen by the number of examples.
        label: column of the classes in a table, or those of 0 and 1 as "sky,sea"; "" =
            found.
        pretrained: .safetensors file of published weights, see
            `ltjax.models.pretrained`; model "auto" is then the network of the file.
        finetune: how they are tuned, see `ltjax.finetune`; "" = "full".
        devices: that the batch size has to be a multiple of.
        sides: how images in memory have been brought to one size.

    Returns:
        A ConfigDict, as of a config file.

    Raises:
        ConfigError: for an argument that is wrong or does not fit the data.
        DataError: if the data cannot be read; MissingDataError if they are not there.
    """
    _check_arguments(method, model, image_size, epochs)
    published = described(pretrained, finetune)
    config = default_config()
    data, test = given_tables(data, test)
    config.data.choose(**data_section(data_name(data), test=test, label=label))
    choose_reading(config, method)
    if config.data.name.startswith("tfds:"):
        choose_splits(config)
    elif (
        "val" in (splits := stored_of(chosen_data(config)).splits) and "test" in splits
    ):
        config.data.val_split = "val"
    source, found = _sized(config, image_size)
    _describe_inputs(config, source, sides or found, model, published)
    _choose_length(config, len(source) - len(source.bare), epochs, devices)
    _choose_groups(config, labelled_counts(source))
    choose_method(config, method, source)
    _size_views(config, sides or found)
    if pretrained:
        config.init_from = pretrained
        apply_finetune(config, finetune or "full")
    return config


def choose_sides(sizes: ImageSizes | None, image_size: int) -> Sides:
    """How images of these sizes are brought to one.

    Images of one size that is not larger than `PHOTO_SIZE` stay as they are. Others are
    resized, so that random crops of 7/8 of the side can be taken.

    Args:
        sizes: of the images, or None if they are not known.
        image_size: what is asked for; 0 = nothing.

    Returns:
        `Sides`.

    Example:
        >>> choose_sides(ImageSizes((28, 28), (28, 28), 9), 0)
        Sides(stored=0, seen=0)
        >>> choose_sides(ImageSizes((300, 200), (500, 400), 9), 0)
        Sides(stored=256, seen=224)
    """
    largest = PHOTO_SIZE if sizes is None else max(sizes.largest)
    if not image_size and sizes is not None and sizes.equal and largest <= PHOTO_SIZE:
        return Sides()
    seen = image_size or min(PHOTO_SIZE, 8 * math.ceil(largest / 8))
    return Sides(round(seen * 8 / 7), seen)


def measured(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel (last axis), of a sample of the training set.

    Args:
        source: of pixels, which count as numbers in [0, 1], or floating point.

    Returns:
        (mean, std), rounded to six digits; the deviation of a constant is 1.
    """
    rows = np.unique(np.linspace(0, len(source) - 1, STATISTICS_SAMPLE).astype(int))
    sums = np.zeros((2, source.shape[-1]))
    count = 0
    for block in np.array_split(rows, -(-len(rows) // 64)):
        values = source.read(block).astype(np.float64)
        values = values.reshape(-1, source.shape[-1])
        values /= 255 if source.dtype == np.uint8 else 1
        sums += values.sum(0), np.square(values).sum(0)
        count += len(values)
    mean = sums[0] / count
    variance = np.maximum(sums[1] / count - mean**2, 0)
    std = np.where(variance > 1e-12 * np.maximum(mean**2, 1), np.sqrt(variance), 1.0)
    return tuple(rounded(x) for x in mean), tuple(rounded(x) for x in std)


def _check_arguments(method: str, model: str, image_size: int, epochs: int) -> None:
    from ltjax.models.registry import MODELS

    faults = []
    if method not in METHODS:
        faults.append(f"method is {method!r}, unknown{nearest(method, METHODS)}")
    if model != AUTO and model not in MODELS:
        faults.append(f"model is {model!r}, unknown{nearest(model, [AUTO, *MODELS])}")
    if image_size and not 8 <= image_size <= 2048:
        faults.append(f"image_size is {image_size}, expected 8 to 2048 pixels, or 0")
    if epochs < 0:
        faults.append(f"epochs is {epochs}, expected at least 1, or 0 = chosen")
    if faults:
        raise ConfigError(faults)


def _sized(config: Any, image_size: int) -> tuple[Source, Sides]:
    """The training source, and how its images are brought to one size."""
    kind = config.data.name.partition(":")[0]
    if kind == "tfds":
        return _sized_records(config, image_size)
    source = training_source(config)
    if not isinstance(source.reader, FileReader):
        if image_size and kind != "memory":
            raise ConfigError(
                [f"image_size is {image_size}, but the data are not image files"]
            )
        return source, Sides()
    sizes = _all_sizes(stored_of(chosen_data(config)))
    sides = choose_sides(sizes, image_size)
    low, high = ("x".join(map(str, one)) for one in (sizes.smallest, sizes.largest))
    if not sides.seen:
        _LOG.info("images of %s pixels, used as they are", low)
        return source, sides
    span = f"of {low}" if sizes.equal else f"from {low} to {high}"
    _LOG.info(
        "images %s pixels are resized and cropped to %d, of which the network sees %d",
        span,
        sides.stored,
        sides.seen,
    )
    config.data.resize = config.data.crop = sides.stored
    return training_source(config), sides


def _all_sizes(stored: Stored) -> ImageSizes:
    """Of the images of every split."""
    readers = [stored.open(split).reader for split in stored.splits]
    found = [image_sizes(r.root, r.paths) for r in readers if isinstance(r, FileReader)]
    return joined([side for one in found for side in (one.smallest, one.largest)])


def _sized_records(config: Any, image_size: int) -> tuple[Source, Sides]:
    """Of a TFDS data set, which says itself whether its images have one size."""
    if not image_size:
        try:
            return training_source(config), Sides()
        except DataError as error:
            if "no fixed size" not in str(error):
                raise
    sides = choose_sides(None, image_size)
    config.data.resize = config.data.crop = sides.stored
    return training_source(config), sides


def _size_views(config: Any, sides: Sides) -> None:
    """Views do not crop: images that would be cropped are read as large as seen."""
    if sides.seen and config.augment.name in ("weak", "weak_strong"):
        config.data.resize = config.data.crop = sides.seen


def _describe_inputs(
    config: Any,
    source: Source,
    sides: Sides,
    model: str,
    published: Published | None = None,
) -> None:
    """Network, optimizer, normalization and augmentation for this shape of inputs."""
    is_image, shape = len(source.shape) == 3, source.shape
    side = sides.seen or min(shape[:2]) if is_image else 0
    mean, std = measured(source)
    if sides.seen:
        options = {"name": "inaturalist", "size": sides.seen}
    elif is_image:
        # An eighth of the side, as CIFAR's 4 of 32. Flips are left to photographs:
        # they make digits and signs into others.
        options = {"name": "shift", "pad": int(np.clip(side // 8, 1, 4))}
    else:
        options = {"name": "normalize"}
    config.augment.choose(mean=mean, std=std, **options)
    usual = {1: "mlp", 2: "conv1d", 3: "resnet18" if side >= SMALL_SIZE else "resnet32"}
    usual_name = published.name if published else usual.get(len(shape), "mlp")
    name = usual_name if model == AUTO else model
    config.model.name = name
    if published:
        choose_published(config, published, shape[-1])
    if name == "mlp" or name.startswith("vit"):
        decay = 1e-4 if name == "mlp" else 0.05
        config.optimizer.choose(name="adamw", lr=1e-3, weight_decay=decay)
    else:
        config.optimizer.choose(name="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4)
    if math.prod(shape) * len(source) * source.dtype.itemsize > RESIDENT_BYTES:
        config.data.feed = "streaming"
    if math.prod(shape) > 1 << 16:
        config.eval_batch_size = 128


def _choose_length(config: Any, size: int, epochs: int, devices: int) -> None:
    """Batch size, epochs and schedule for this number of training examples."""
    wanted = max(size // STEPS_PER_EPOCH, 1)
    batch = int(np.clip(2 ** int(math.log2(wanted)), MIN_BATCH, MAX_BATCH))
    batch = devices * math.ceil(batch / devices)
    config.batch_size = batch
    if config.optimizer.name == "sgd":
        # Goyal et al. 2017: the rate grows with the batch.
        config.optimizer.lr = rounded(0.1 * batch / MAX_BATCH)
    per_epoch = max(size // batch, 1)
    usual = int(np.clip(math.ceil(STEPS / per_epoch), MIN_EPOCHS, MAX_EPOCHS))
    config.total = f"{epochs or usual} epochs"
    config.schedule.choose(name="cosine", warmup="5%")
    config.log_every = "5%"
    config.eval_every = config.checkpoint_every = "20%"


def _choose_groups(config: Any, counts: np.ndarray) -> None:
    """Limits of many- and few-shot classes, where the usual ones tell nothing apart.

    Otherwise at thirds of the range of counts, on a logarithmic scale.
    """
    many, few = counts > config.many, counts < config.few
    groups = [one.any() for one in (many, ~many & ~few, few)]
    low, high = max(int(counts.min()), 1), int(counts.max())
    if sum(groups) > 1 or high < 2 * low:
        return
    ratio = high / low
    config.many = max(int(low * ratio ** (2 / 3)), 1)
    config.few = min(math.ceil(low * ratio ** (1 / 3)), config.many)
