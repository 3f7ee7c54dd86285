"""The residual networks of the benchmarks in PyTorch, as their papers define them."""

import torch.nn.functional as F
from torch import nn


class Basic(nn.Module):
    """Two convolutions; the shortcut drops pixels and pads channels (option A)."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.changes = stride != 1 or width_in != width
        self.pad = (width - width_in) // 2

    def forward(self, x):
        y = F.relu(self.norm1(self.first(x)))
        y = self.norm2(self.second(y))
        if self.changes:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1; a 1x1 shortcut where shapes change."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or width_in != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.body(x))


def resnet_cifar(depth: int) -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width_in = 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for k in range((depth - 2) // 6):
            layers.append(Basic(width_in, width, stride if k == 0 else 1))
            width_in = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, 10)]
    return nn.Sequential(*layers)


def resnet(blocks: tuple[int, ...]) -> nn.Module:
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    width_in = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for k in range(count):
            stride = 2 if stage > 0 and k == 0 else 1
            layers.append(Bottleneck(width_in, width, stride))
            width_in = 4 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, 10)]
    return nn.Sequential(*layers)
