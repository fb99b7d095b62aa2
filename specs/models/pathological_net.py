"""Train the paper's pathologically deep network (its section 5.1, figure 6) on MNIST; keep its weights on the way.

    python specs/models/mnist_idx.py            # fetches MNIST into specs/data/mnist
    python specs/models/pathological_net.py

The paper gives 128 layers of 128 units, MNIST, SGD and the skip from the image to the second half. The rest is ours:
tanh, weights of deviation 1.5 / √inputs, biases of 0, a step of 0.01 without momentum, batches of 128 of the first
50,000 training images, without an epoch's last, smaller one. So large weights scramble the image over 64 layers, while
those after the skip learn; with a gain of 1 the whole network is of use, with 5/3 little is learned.

Writes ``step_500.safetensors`` and ``step_2000.safetensors`` (9 MB each) into ``specs/data/pathological_net`` (or
``--out``), in a minute and a half of one core. The same seed gives the same weights.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parent.parent / "data"
FETCH = "python specs/models/mnist_idx.py"
PIXELS, CLASSES = 28 * 28, 10
TRAIN_ROWS = 50_000
BATCH = 128
GAIN, STEP_SIZE = 1.5, 0.01

Skip = Literal["none", "half", "every"]
Rows = tuple[torch.Tensor, torch.Tensor]


class DeepNet(nn.Module):
    """Fully connected layers of one width with tanh, and ten logits.

    Args:
        depth: layers.
        width: units of each.
        skip: ``half``: the layer after the first half takes the image beside what comes before it. ``every``: each
            layer but the first is added to its input. ``none``: neither.
        gain: a weight has deviation ``gain`` ÷ √(inputs of its layer); biases are 0.
    """

    def __init__(self, depth: int = 128, width: int = 128, skip: Skip = "half", gain: float = GAIN) -> None:
        super().__init__()
        self.skip = skip
        self.half = depth // 2
        inputs = [PIXELS] + [width] * (depth - 1)
        if skip == "half":
            inputs[self.half] += PIXELS
        self.linear = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.tanh = nn.ModuleList(nn.Tanh() for _ in inputs)
        # A sum has a module of its own, so that it can be tapped.
        self.sum = nn.ModuleList(nn.Identity() for _ in inputs[1:] if skip == "every")
        self.logits = nn.Linear(width, CLASSES)
        for layer in (*self.linear, self.logits):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the ten logits of each image."""
        pixels = h = image.flatten(1)
        for number, (linear, tanh) in enumerate(zip(self.linear, self.tanh, strict=True)):
            if self.skip == "half" and number == self.half:
                h = torch.cat([h, pixels], dim=1)
            given, h = h, tanh(linear(h))
            if self.skip == "every" and number > 0:
                h = self.sum[number - 1](given + h)
        return self.logits(h)


def build(depth: int = 128, width: int = 128, skip: Skip = "half", gain: float = GAIN) -> nn.Module:
    """Return the untrained network; its weights come from torch's generator as it stands."""
    return DeepNet(depth, width, skip, gain)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes."""
    content = path.read_bytes()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4")
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)


def read_rows(folder: Path) -> Rows:
    """Return the training images (float32, 0 to 1, (N, 1, 28, 28)) and their classes."""
    images, labels = (read_idx(folder / f"train-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    return torch.from_numpy(images.astype(np.float32)[:, None] / 255), torch.from_numpy(labels.astype(np.int64))


def train(model: nn.Module, rows: Rows, step_size: float, minibatches: list[int]) -> Iterator[tuple[int, float]]:
    """Fit ``model`` to rows by plain SGD, in random batches of 128 drawn by torch's own generator.

    Args:
        model: is changed.
        rows: images and classes.
        step_size: the learning rate.
        minibatches: after how many of them there is something to see, in rising order.

    Yields:
        the number of minibatches and the loss of the last one.
    """
    images, labels = rows
    optimizer = torch.optim.SGD(model.parameters(), lr=step_size)
    batches: Iterator[torch.Tensor] = iter(())
    for number in range(1, minibatches[-1] + 1):
        batch = next(batches, None)
        if batch is None:  # a new epoch; the last, smaller batch is left out
            batches = iter(torch.randperm(len(images)).split(BATCH)[:-1])
            batch = next(batches)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        if number in minibatches:
            yield number, float(loss.detach())


def main() -> None:
    """Train, and write the weights after some minibatches."""
    parser = argparse.ArgumentParser(description="Train the paper's pathologically deep network on MNIST.")
    parser.add_argument("--data", type=Path, default=DATA / "mnist", help="folder of the IDX files")
    parser.add_argument("--out", type=Path, default=DATA / "pathological_net")
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--skip", choices=["none", "half", "every"], default="half")
    parser.add_argument("--gain", type=float, default=GAIN)
    parser.add_argument("--step-size", type=float, default=STEP_SIZE)
    parser.add_argument("--minibatches", default="500,2000", help="after how many the weights are kept")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.data / "train-images-idx3-ubyte").is_file():
        sys.exit(f"{args.data} has no MNIST; type: {FETCH}")

    from safetensors.torch import save

    torch.set_num_threads(1)  # so that the same seed gives the same weights
    torch.manual_seed(args.seed)
    model = DeepNet(depth=args.depth, skip=args.skip, gain=args.gain)
    images, labels = read_rows(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    rows = images[:TRAIN_ROWS], labels[:TRAIN_ROWS]
    for number, loss in train(model, rows, args.step_size, sorted(map(int, args.minibatches.split(",")))):
        with torch.no_grad():
            wrong = (model(images[TRAIN_ROWS:]).argmax(1) != labels[TRAIN_ROWS:]).double().mean()
        (args.out / f"step_{number}.safetensors").write_bytes(save(model.state_dict()))
        seconds = time.perf_counter() - start
        print(f"minibatch {number}: loss {loss:.3f}, error on valid {wrong:.4f}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
