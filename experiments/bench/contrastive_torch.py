"""NT-Xent of Lightly, in a process of an interpreter that has torch and lightly."""

import sys

TEMPERATURE = 0.2


def main() -> None:
    """Value and gradient, once for every line of standard input.

    The line names a file with the views [2, B, D] float32, or is empty for those of the
    line before.
    """
    import numpy as np
    import torch
    from lightly.loss import NTXentLoss

    loss_of, views_of = NTXentLoss(temperature=TEMPERATURE), []
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        if line.strip():
            stored = torch.from_numpy(np.load(line.strip()))
            views_of = [view.clone().requires_grad_() for view in stored]
        first, second = views_of
        first.grad = second.grad = None
        loss = loss_of(first, second)
        loss.backward()
        print("done", loss.item(), flush=True)


if __name__ == "__main__":
    main()
