"""Train a small network of inception modules with an auxiliary head on Fashion-MNIST; keep it at four moments.

    apt-get install dataset-fashion-mnist       # Debian and Ubuntu; or --data FOLDER with the four *-ubyte.gz files
    python specs/models/small_inception.py

The plan is that of Inception v3 (figure 8 of the paper) at a hundredth of its size: a stem, inception modules of four
branches, an auxiliary head that leaves after the third of five modules, and the main head. Its loss is the main head's
cross-entropy plus 0.4 times the auxiliary head's. Images are float32, pixel / 255, (N, 1, 28, 28). The network is
trained on the first 50,000 training images; no choice was made by an error.

Makes ``small_inception/step_N.safetensors`` beside this file, where N is the number of minibatches of 128 before it: 0,
50, 400 and the end. The weights are float32 numbers that half precision can hold. As a factory,
``small_inception.py:build`` gives the network as it was before training. In eval mode too it returns both heads.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn

MOMENTS = (0, 50, 400)
"""Numbers of minibatches after which the network is kept, beside the last one."""


class ConvBlock(nn.Sequential):
    """A convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class InceptionModule(nn.Module):
    """Four branches side by side: 1x1, 3x3, twice 3x3, and pooling; ``outputs`` channels of each."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int]) -> None:
        super().__init__()
        one, three, double, pool = outputs
        self.branch1x1 = ConvBlock(inputs, one, 1)
        self.branch3x3 = nn.Sequential(ConvBlock(inputs, three // 2, 1), ConvBlock(three // 2, three, 3))
        self.branch3x3dbl = nn.Sequential(
            ConvBlock(inputs, double // 2, 1), ConvBlock(double // 2, double, 3), ConvBlock(double, double, 3)
        )
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), ConvBlock(inputs, pool, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the branches' channels, one after the other."""
        branches = (self.branch1x1, self.branch3x3, self.branch3x3dbl, self.branch_pool)
        return torch.cat([branch(image) for branch in branches], 1)


class AuxiliaryHead(nn.Module):
    """Average pooling, a 1x1 and a wide convolution, and a linear layer, as in Inception v3."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=2)
        self.conv0 = ConvBlock(inputs, 32, 1)
        self.conv1 = nn.Sequential(nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.fc = nn.Linear(64, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of (N, inputs, 7, 7)."""
        return self.fc(self.conv1(self.conv0(self.pool(image))).flatten(1))


class SmallInception(nn.Module):
    """A stem, then inception modules: one at 14 x 14, two at 7 x 7, two at 3 x 3."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = ConvBlock(1, 16, 3, stride=2)
        self.mixed1 = InceptionModule(16, (8, 16, 8, 8))
        self.pool1 = nn.MaxPool2d(2)
        self.mixed2 = InceptionModule(40, (12, 24, 12, 8))
        self.mixed3 = InceptionModule(56, (16, 24, 16, 8))
        self.aux = AuxiliaryHead(64, classes)
        self.pool2 = nn.MaxPool2d(2)
        self.mixed4 = InceptionModule(64, (24, 32, 24, 16))
        self.mixed5 = InceptionModule(96, (32, 48, 32, 16))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, classes)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits of both heads of each image."""
        h = self.mixed3(self.mixed2(self.pool1(self.mixed1(self.conv1(image)))))
        aux = self.aux(h)
        h = self.mixed5(self.mixed4(self.pool2(h)))
        return {"logits": self.fc(self.avgpool(h).flatten(1)), "aux": aux}


def build() -> nn.Module:
    """Return the untrained network, always with the same weights: those that ``--seed 0`` starts from."""
    return seeded(0)


def seeded(seed: int) -> nn.Module:
    """Return the untrained network with the default weights of ``seed``, leaving torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallInception()


def keep(model: nn.Module, step: int, folder: Path) -> None:
    """Write the state of ``model``, rounded to what half precision can hold: git stores 57 % of the size."""
    from safetensors.torch import save

    state = {name: t.half().float() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    (folder / f"step_{step}.safetensors").write_bytes(save(state))


def main() -> None:
    """Train; write the network at four moments."""
    from fashion_convnet import TRAIN_ROWS, read_rows

    parser = argparse.ArgumentParser(description="Train a small network of inception modules on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rows", type=int, default=TRAIN_ROWS, help="training images, the first ones")
    parser.add_argument("--moments", type=int, nargs="+", default=MOMENTS, help="numbers of minibatches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "small_inception", help="folder")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    images, labels = (tensor[: args.rows] for tensor in read_rows(args.data, "train"))
    model = seeded(args.seed)
    total = args.epochs * -(-len(images) // 128)
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=total, pct_start=0.1)
    start, step = time.perf_counter(), 0
    model.train()
    for _ in range(args.epochs):
        for batch in torch.randperm(len(images), generator=generator).split(128):
            if step in args.moments:
                keep(model, step, args.out)
            optimizer.zero_grad()
            heads = model(images[batch])
            loss, aux = (nn.functional.cross_entropy(heads[name], labels[batch]) for name in ("logits", "aux"))
            (loss + 0.4 * aux).backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0:
                seconds = time.perf_counter() - start
                print(f"minibatch {step}  loss: main {loss:.4f}  auxiliary {aux:.4f}  ({seconds:.0f} s)", flush=True)
    keep(model, step, args.out)
    print(f"wrote {args.out}: {', '.join(sorted(path.name for path in args.out.glob('step_*')))}")


if __name__ == "__main__":
    main()
