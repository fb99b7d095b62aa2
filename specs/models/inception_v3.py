"""Inception v3 whose auxiliary head runs in eval mode too: torchvision's network, which leaves the head out there.

``inception_v3.py:build`` is the factory of ``specs/inception_v3.yaml``. Its weights have torchvision's names, so that a
state dict of ``torchvision.models.inception_v3`` fits. As a command it trains the network for some minibatches on a
folder with one sub-folder a class, at real size, and keeps it at several moments:

    python specs/models/made_classes.py
    python specs/models/inception_v3.py --images specs/data/made_classes

Makes ``specs/data/inception_v3/step_N.safetensors``, where N is the number of minibatches of 8 before it. This shows
that a run works from end to end at real size; so few minibatches teach the network little.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.models.inception import Inception3

if TYPE_CHECKING:
    from collections.abc import Iterator

BEFORE = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
          "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")  # fmt: skip
"""What an image goes through before the auxiliary head leaves."""
AFTER = ("Mixed_7a", "Mixed_7b", "Mixed_7c", "avgpool", "dropout")
SIZE = 299
MEAN = STD = 0.5


class InceptionV3(Inception3):
    """torchvision's Inception v3, both heads in every mode."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits of the main and of the auxiliary head of images (N, 3, 299, 299), from -1 to 1."""
        h = image
        for name in BEFORE:
            h = getattr(self, name)(h)
        aux = self.AuxLogits(h)
        for name in AFTER:
            h = getattr(self, name)(h)
        return {"logits": self.fc(h.flatten(1)), "aux": aux}


def build(num_classes: int = 1000) -> nn.Module:
    """Return the network with random weights, drawn as torchvision draws them."""
    return InceptionV3(num_classes=num_classes, init_weights=True)


def read_images(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images (N, 3, 299, 299), from -1 to 1, and their classes."""
    import numpy as np
    from PIL import Image

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, part in enumerate(classes):
        for path in sorted(part.iterdir()):
            pixels = np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE)), dtype=np.float32) / 255
            images.append(torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def batches(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Give minibatches of all rows in another order each time, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


def main() -> None:
    """Train; write the network at several moments."""
    from safetensors.torch import save_file

    here = Path(__file__).resolve().parent.parent / "data"
    parser = argparse.ArgumentParser(description="Train Inception v3 for a few minibatches; keep it at some moments.")
    parser.add_argument("--images", type=Path, default=here / "made_classes", help="a folder with a sub-folder a class")
    parser.add_argument("--moments", type=int, nargs="+", default=[0, 4, 8, 16], help="numbers of minibatches")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=here / "inception_v3", help="folder")
    args = parser.parse_args()

    images, labels = read_images(args.images)
    torch.manual_seed(args.seed)
    model = build(int(labels.max()) + 1).train()
    # Moving averages of the default's pace would be those of no image after so few minibatches.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.3
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for step, batch in enumerate(batches(len(images), args.batch_size, args.seed)):
        if step in args.moments:
            save_file(model.state_dict(), args.out / f"step_{step}.safetensors")
        if step >= max(args.moments):
            break
        optimizer.zero_grad()
        heads = model(images[batch])
        loss, aux = (nn.functional.cross_entropy(heads[name], labels[batch]) for name in ("logits", "aux"))
        (loss + 0.4 * aux).backward()
        optimizer.step()
        seconds = time.perf_counter() - start
        print(f"minibatch {step + 1}  loss: main {loss:.3f}  auxiliary {aux:.3f}  ({seconds:.0f} s)", flush=True)
    print(f"wrote {args.out}: {', '.join(sorted(path.name for path in args.out.glob('step_*')))}")


if __name__ == "__main__":
    main()
