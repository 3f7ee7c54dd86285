"""AUC losses of LibAUC and XCurve, in a process of an interpreter that has them."""

import sys


def main() -> None:
    """Value and gradient, once for every line of standard input.

    The line names a library, one of its losses, a file with scores and labels and, if
    it is wanted, a file for the gradient; or is empty for those of the line before.
    """
    import libauc
    import numpy as np
    import torch
    import XCurve
    from libauc.losses import AUCMLoss, PairwiseAUCLoss
    from XCurve.AUROC.losses import ExpAUCLoss, SquareAUCLoss

    makers = {
        "aucm": AUCMLoss,
        "square": lambda: SquareAUCLoss(2),
        "exp": lambda: ExpAUCLoss(2),
    }

    def in_double(loss):
        """XCurve's formula; its `forward` makes labels float32, for which it refuses.

        What stands before the formula is that of `forward` for two classes.
        """

        def call(scores, labels):
            up = labels.to(scores.dtype)
            count, rest = up.sum(), (1 - up).sum()
            pairs = 1 / (count * rest)
            return loss.calLossPerCLass(scores.squeeze(1), up, pairs, count)

        return call

    loss, scores, labels, kept = None, None, None, []
    print(
        "ready", torch.__version__, libauc.__version__, XCurve.__version__, flush=True
    )
    for line in sys.stdin:
        if line.strip():
            library, name, place, *kept = line.split()
            make = makers.get(name, lambda name=name: PairwiseAUCLoss(name))
            loss = make()
            with np.load(place) as stored:
                # XCurve asks for a column of scores.
                shape = (-1, 1) if library == "XCurve" else (-1,)
                scores = torch.from_numpy(stored["scores"]).reshape(shape)
                labels = torch.from_numpy(stored["labels"])
            if library == "XCurve" and scores.dtype == torch.float64:
                loss = in_double(loss)
            scores.requires_grad_()
        scores.grad = None
        value = loss(scores, labels)
        value.sum().backward()
        if kept:
            np.save(kept[0], scores.grad.ravel().numpy())
        print("done", value.sum().item(), flush=True)


if __name__ == "__main__":
    main()
