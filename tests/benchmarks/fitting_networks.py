"""Networks of the benchmark of fits, made by torch factories. Nothing here is run by itself."""

import importlib.util
from pathlib import Path

import torch

SIDE = 64
"""Pixels to which Fashion-MNIST's images are enlarged: the networks halve them five times."""


class Enlarged(torch.nn.Module):
    """A network that wants coloured images, fed with grey ones, (examples, 1, height, width)."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        whole = torch.nn.functional.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        found: torch.Tensor = self.net(whole.repeat(1, 3, 1, 1))
        return found


def efficientnet() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    path = Path(__file__).parents[2] / "specs" / "models" / "efficientnet_lite0_emoji_arrays.py"
    found = importlib.util.spec_from_file_location("efficientnet_lite0", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return Enlarged(module.build()).eval()


def resnet50() -> torch.nn.Module:
    """ResNet-50 with random weights."""
    from torchvision.models import resnet50 as build

    torch.manual_seed(0)
    return Enlarged(build()).eval()
