"""torchvision's RandAugment, in a process of an interpreter that has it."""

import sys
import time


def main() -> None:
    """All images once, for every line of standard input: the processor seconds of it.

    Every image has a call, and so draws of its own. Arguments: number of images, their
    side, and the magnitude.
    """
    import torch
    import torchvision
    from torchvision.transforms import v2

    batch, size, magnitude = map(int, sys.argv[1:])
    torch.manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    change = v2.RandAugment(num_ops=2, magnitude=magnitude)
    print("ready", torch.__version__, torchvision.__version__, flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        torch.stack([change(image) for image in images])
        print("done", time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
