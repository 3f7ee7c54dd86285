"""The CIFAR ResNet recipe in PyTorch, in a process of its own.

`TorchPeer` starts this file with an interpreter that has torch (nothing else is needed
there) and asks it for some steps at a time.
"""

import sys

from experiments.bench.peer_process import PeerProcess


class TorchPeer(PeerProcess):
    """Calling it trains `steps` steps in the other process.

    Args:
        python: an interpreter that can import torch.
        depth: of the ResNet, 6 n + 2.
        batch: examples per step.
        num_images: random images that the batches are drawn from.
        steps: per call.

    Raises:
        RuntimeError: if the process does not start, or stops.
    """

    def __init__(
        self, python: str, *, depth: int, batch: int, num_images: int, steps: int
    ):
        self._steps = steps
        super().__init__(python, "engine_torch", depth, batch, num_images)
        self.version, threads, parameters = self.told
        self.threads, self.num_params = int(threads), int(parameters)

    def __call__(self) -> float:
        """The loss of the last step."""
        return self.ask(self._steps)


def main(depth: int, batch: int, num_images: int) -> None:
    """Trains as many steps as each line of standard input says."""
    import torch
    import torch.nn.functional as F

    from experiments.bench.torch_networks import resnet_cifar

    torch.manual_seed(0)
    net = resnet_cifar(depth)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=2e-4)

    images = torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8)
    labels = torch.arange(num_images) % 10
    mean = torch.tensor((0.4914, 0.4822, 0.4465))
    std = torch.tensor((0.2023, 0.1994, 0.2010))

    def augmented(chosen):
        """Pad by 4, crop, flip, normalize: the whole batch in one gather."""
        padded = F.pad(images[chosen], (0, 0, 4, 4, 4, 4))
        offsets = torch.randint(0, 9, (2, batch, 1))
        span = torch.arange(32).expand(batch, 32)
        columns = torch.where(torch.rand(batch, 1) < 0.5, span.flip(1), span)
        rows, columns = span + offsets[0], columns + offsets[1]
        which = torch.arange(batch)[:, None, None]
        pixels = padded[which, rows[:, :, None], columns[:, None, :]]
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def step():
        chosen = torch.randperm(num_images)[:batch]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(augmented(chosen)), labels[chosen])
        loss.backward()
        optimizer.step()
        return loss.item()

    count = sum(parameter.numel() for parameter in net.parameters())
    print("ready", torch.__version__, torch.get_num_threads(), count, flush=True)
    for line in sys.stdin:
        losses = [step() for _ in range(int(line))]
        print("done", losses[-1], flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
