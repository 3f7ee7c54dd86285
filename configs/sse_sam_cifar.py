r"""The grid of the SSE-SAM paper on CIFAR-10/100-LT (Lyu et al., AAAI 2025).

    ltjax train --config configs/sse_sam_cifar.py:loss=la,gradient=sse_sam --workdir W

Arguments: classes (10 or 100), loss (ce, la, ldam_drw, vs), gradient (plain, sam,
imbsam, sse_sam), imf, smoke.

Published for CIFAR-100-LT at ratio 100 with CE: rho_head 0.05, rho_tail 0.1, eta 100,
switch at 70 %, SGD 0.01 with momentum 0.9, cosine to 0, weight decay 1e-3, batch 64,
200 epochs; LA is tau 0.75, VS gamma 0.05 and tau 0.75. The paper's "ResNet-32" is a
ResNet-34 with a 3x3 stem (about 21 M parameters); this config uses the CIFAR ResNet-32
of the rest of the field, so the paper's numbers (many/medium/few/all: CE
74.3/43.1/11.6/44.6, SAM 75.3/45.6/12.9/46.2, ImbSAM 72.3/50.4/16.6/47.9, SSE-SAM
71.7/54.5/17.1/49.3) are not targets. ImbSAM here is the paper's sum over the batch;
`group_normalize` "group_mean" is what the SSE-SAM authors ran under that name.
"""

from ltjax.methods import presets
from ltjax.train.config import default_config, parse_arg


def get_config(arg=""):
    args = parse_arg(
        arg, classes=100, loss="ce", gradient="sse_sam", imf=100.0, smoke=False
    )
    config = default_config()
    config.data.name = f"cifar{args.classes}"
    config.data.imbalance_factor = args.imf
    config.data.max_count = 50_000 // args.classes
    config.augment.name = "cifar"
    config.model.name = "resnet32"
    config.batch_size = 64
    config.total = "200 epochs"
    config.optimizer.lr = 0.01
    config.optimizer.weight_decay = 1e-3
    config.schedule.name = "cosine"
    config.schedule.per_epoch = True
    config.log_every = "1 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    presets.apply_preset(config, args.loss, late="160 epochs")
    if args.loss == "la":
        config.loss.tau = 0.75
    elif args.loss == "vs":
        config.loss.gamma, config.loss.tau = 0.05, 0.75
    eta = 100 if args.classes == 100 else 1000
    changes = {"eta": eta} if args.gradient in ("imbsam", "sse_sam") else {}
    presets.apply_gradient(config, args.gradient, **changes)
    if args.smoke:
        config.data.max_count = 200
        config.total = "4 steps"
        config.batch_size = 16
        config.log_every = "2 steps"
        config.model.name = "resnet20"
        config.weights.start = config.weights.start and "2 steps"
    return config
