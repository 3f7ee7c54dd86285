"""MNIST, long-tailed, from published weights: what of a network trains, and how fast.

    export LTJAX_DATA_DIR=...          # a folder of prepared TFDS data sets
    ltjax train --config configs/mnist_finetune.py:method=la,pretrained=FILE \\
        --workdir runs/mnist_lora

On images of your own, `ltjax train --data photos --model vit_b16 --pretrained FILE
--finetune lora --method la` does the same.

Arguments: pretrained (.safetensors of a ResNet or Vision Transformer, see
docs/fine_tune.md; "" trains all of `model` from random weights), model ("" = the one of
the file, or resnet18), finetune (probe, last:N, lora:RANK or full:DECAY), method, head
("cosine" with method=la and finetune=lora is the recipe of LIFT, Shi et al. 2024),
gradient, imf, epochs, smoke.
Setting: exp profile, 5000 images in the largest class, AdamW with rate 1e-3, cosine,
batches of 128, normalized as the weights were trained.
"""

from ltjax.finetune import apply_finetune, choose_published
from ltjax.methods import presets
from ltjax.models.pretrained import describe_file
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg,
        pretrained="",
        model="",
        finetune="lora",
        method="ce",
        head="auto",
        gradient="plain",
        imf=100.0,
        epochs=10,
        smoke=False,
    )
    config = default_config()
    config.data.choose(name="mnist", max_count=5000, imbalance_factor=args.imf)
    config.augment.name = "shift"
    published = describe_file(args.pretrained) if args.pretrained else None
    config.model.name = args.model or (published.name if published else "resnet18")
    if published:
        choose_published(config, published, channels=1)
    config.optimizer.choose(name="adamw", lr=1e-3, weight_decay=0.05)
    config.schedule.choose(name="cosine", warmup="5%")
    config.total = f"{args.epochs} epochs"
    config.eval_every = config.checkpoint_every = "50%"
    config.many, config.few = 1000, 200  # 4 many, 3 medium, 3 few at ratio 100
    presets.apply_preset(config, args.method, late="80%")
    presets.apply_gradient(config, args.gradient)
    if args.gradient in ("imbsam", "sse_sam"):
        config.gradient.eta = 200
    if args.head != "auto":
        config.head.name = args.head
    if args.pretrained:
        config.init_from = args.pretrained
        apply_finetune(config, args.finetune)
    if args.smoke:
        presets.apply_smoke(config)
    return config
