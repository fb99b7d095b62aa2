"""A network of the benchmark of fits, made by its torch factory. Nothing here is run by itself."""

import importlib.util
from pathlib import Path

import torch

SIDE = 64
"""Pixels to which Fashion-MNIST's images are enlarged: the network halves them five times."""


class Enlarged(torch.nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, fed with grey images, (examples, 1, height, width)."""

    def __init__(self) -> None:
        super().__init__()
        path = Path(__file__).parents[2] / "specs" / "models" / "efficientnet_lite0_emoji_arrays.py"
        found = importlib.util.spec_from_file_location("efficientnet_lite0", path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        self.net = module.build()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        whole = torch.nn.functional.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.net(whole.repeat(1, 3, 1, 1))


def build() -> torch.nn.Module:
    return Enlarged().eval()
