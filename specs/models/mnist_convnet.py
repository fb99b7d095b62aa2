"""Train the paper's convnet (its section 3.5, figure 2) on MNIST; keep its weights before training and at the end.

    python specs/models/mnist_idx.py            # fetches MNIST into specs/data/mnist
    python specs/models/mnist_convnet.py

The paper takes the network of a TensorFlow example, ``models/image/mnist/convolutional.py``. Its architecture, its
start and its training are followed here: two convolutions of 5 x 5 (32 and 64 channels) with ReLU and pooling by 2, a
layer of 512 with ReLU, half of which is dropped in training, ten logits; weights from a normal distribution of
deviation 0.1 cut at two deviations, biases 0 in the first convolution and 0.1 elsewhere; batches of 64, SGD with
momentum 0.9, a step size of 0.01 that shrinks by 5 % an epoch, (0.0005 / 2) times the squared norm of the linear
layers; ten epochs. Images are float32, pixel / 255 - 0.5, (N, 1, 28, 28).

The network is trained on the first 50,000 training images. The last 10,000 are left for choices (the paper has a
validation set of 10,000; the example itself 5,000); no epoch is chosen by their error.

Writes ``initial.safetensors`` and ``trained.safetensors`` (6.7 MB each) into ``specs/data/mnist_convnet`` (or
``--out``). The same seed and number of threads give the same weights.

Takes 11 minutes of one core, and a minute more for the errors that it prints after each epoch.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

DATA = Path(__file__).resolve().parent.parent / "data"
FETCH = "python specs/models/mnist_idx.py"
TRAIN_ROWS = 50_000
BATCH = 64

Rows = tuple[torch.Tensor, torch.Tensor]


class MnistConvnet(nn.Module):
    """Two convolutions and two linear layers, with a module of its own wherever the paper puts a probe."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * 7 * 7, 512)
        self.relu3 = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Linear(512, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.logits):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.0 if layer is self.conv1 else 0.1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the ten logits of each image."""
        h = self.pool1(self.relu1(self.conv1(image)))
        h = self.pool2(self.relu2(self.conv2(h)))
        return self.logits(self.dropout(self.relu3(self.fc1(self.flatten(h)))))


def build() -> nn.Module:
    """Return the untrained network; its weights come from torch's generator as it stands."""
    return MnistConvnet()


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes."""
    content = path.read_bytes()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4")
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)


def read_rows(folder: Path, part: str) -> Rows:
    """Return the images (float32, -0.5 to 0.5) and classes of ``part`` (train or t10k)."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte")
    return torch.from_numpy(images.astype(np.float32)[:, None] / 255 - 0.5), torch.from_numpy(labels.astype(np.int64))


def error(model: nn.Module, rows: Rows) -> float:
    """Return the share of rows that ``model`` gets wrong."""
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(batch).argmax(1) for batch in rows[0].split(500)])
    return float((predicted != rows[1]).double().mean())


def train(model: MnistConvnet, parts: dict[str, Rows], epochs: int, seed: int) -> None:
    """Fit ``model`` to ``parts["train"]``; print the error on valid and test after each epoch."""
    images, labels = parts["train"]
    generator = torch.Generator().manual_seed(seed)
    groups = [
        {"params": [*model.conv1.parameters(), *model.conv2.parameters()]},
        {"params": [*model.fc1.parameters(), *model.logits.parameters()], "weight_decay": 5e-4},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.train()
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
        seconds = time.perf_counter() - start
        errors = "  ".join(f"{name} {error(model, parts[name]):.4f}" for name in ("valid", "test"))
        print(f"epoch {epoch:2d}  error: {errors}  ({seconds:.0f} s)", flush=True)


def main() -> None:
    """Train, print the errors, write both files."""
    parser = argparse.ArgumentParser(description="Train the paper's convnet on MNIST; keep its start and its end.")
    parser.add_argument("--data", type=Path, default=DATA / "mnist", help="folder of the four IDX files")
    parser.add_argument("--rows", type=int, default=TRAIN_ROWS, help="the first images of each part that are used")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DATA / "mnist_convnet", help="folder of the two files")
    args = parser.parse_args()

    if not (args.data / "train-images-idx3-ubyte").is_file():
        sys.exit(f"{args.data} has no MNIST; run {FETCH}, or give --data")
    if not 0 < args.rows <= TRAIN_ROWS:
        sys.exit(f"--rows is 1 to {TRAIN_ROWS}, not {args.rows}")
    images, labels = read_rows(args.data, "train")
    parts = {
        "train": (images[:TRAIN_ROWS], labels[:TRAIN_ROWS]),
        "valid": (images[TRAIN_ROWS:], labels[TRAIN_ROWS:]),
        "test": read_rows(args.data, "t10k"),
    }
    parts = {name: (images[: args.rows], labels[: args.rows]) for name, (images, labels) in parts.items()}

    from safetensors.torch import save_file

    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)  # of the weights and of what is dropped
    model = MnistConvnet()
    save_file(model.state_dict(), args.out / "initial.safetensors")
    train(model, parts, args.epochs, args.seed)
    save_file(model.state_dict(), args.out / "trained.safetensors")
    print(f"wrote initial.safetensors and trained.safetensors to {args.out}")


if __name__ == "__main__":
    main()
