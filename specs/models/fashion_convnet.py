"""Train the paper's MNIST convnet (its section 3.5, figure 2) on Fashion-MNIST; write its weights and its ONNX file.

    apt-get install dataset-fashion-mnist       # Debian and Ubuntu; or --data FOLDER with the four *-ubyte.gz files
    python specs/models/fashion_convnet.py

Images are float32, pixel / 255, (N, 1, 28, 28), with no further normalisation. The network is trained on the first
50,000 training images. The last 10,000 training images are left for choices (probes, penalties); neither they nor the
test images were trained on, and no epoch was chosen by their error: the weights are those after the last epoch.

Makes ``fashion_convnet.safetensors`` and ``fashion_convnet.onnx`` beside this file. The weights are float32 numbers
that half precision can hold. As a factory, ``fashion_convnet.py:build`` gives the network as it was before training.

Takes 11 minutes on 2 CPU cores. Accuracy after rounding: train 0.9581, valid 0.9228, test 0.9177.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")}
FILES["test"] = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
TRAIN_ROWS = 50_000

Rows = tuple[torch.Tensor, torch.Tensor]


class FashionConvnet(nn.Module):
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
        self.logits = nn.Linear(512, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the ten logits of each image."""
        h = self.pool1(self.relu1(self.conv1(image)))
        h = self.pool2(self.relu2(self.conv2(h)))
        return self.logits(self.relu3(self.fc1(self.flatten(h))))


def build() -> nn.Module:
    """Return the untrained network, always with the same weights: those that ``--seed 0`` starts from."""
    return seeded(0)


def seeded(seed: int) -> nn.Module:
    """Return the untrained network with the default weights of ``seed``, leaving torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FashionConvnet()


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes."""
    with gzip.open(path) as stream:
        content = stream.read()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4")
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)


def read_rows(folder: Path, part: str) -> Rows:
    """Return the images (float32, 0 to 1) and classes of ``part`` (train or test)."""
    images, labels = (read_idx(folder / name) for name in FILES[part])
    return torch.from_numpy(images.astype(np.float32)[:, None] / 255), torch.from_numpy(labels.astype(np.int64))


def error(model: nn.Module, rows: Rows) -> float:
    """Return the share of rows that ``model`` gets wrong."""
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(batch).argmax(1) for batch in rows[0].split(200)])
    return float((predicted != rows[1]).double().mean())


def train(model: nn.Module, parts: dict[str, Rows], epochs: int, seed: int) -> None:
    """Fit ``model`` to ``parts["train"]`` with SGD; print the error of every part after each epoch."""
    images, labels = parts["train"]
    batches = -(-len(images) // 128)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=epochs * batches, pct_start=0.1)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.train()
        for batch in torch.randperm(len(images), generator=generator).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
        seconds = time.perf_counter() - start
        errors = "  ".join(f"{name} {error(model, rows):.4f}" for name, rows in parts.items())
        print(f"epoch {epoch:2d}  error: {errors}  ({seconds:.0f} s)", flush=True)


def main() -> None:
    """Train, round, print the errors, write both files."""
    parser = argparse.ArgumentParser(description="Train the paper's MNIST convnet on Fashion-MNIST; write it.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the two files")
    args = parser.parse_args()

    missing = [name for names in FILES.values() for name in names if not (args.data / name).is_file()]
    if missing:
        sys.exit(f"{args.data} has no {', '.join(missing)}; run apt-get install dataset-fashion-mnist, or give --data")
    images, labels = read_rows(args.data, "train")
    parts = {
        "train": (images[:TRAIN_ROWS], labels[:TRAIN_ROWS]),
        "valid": (images[TRAIN_ROWS:], labels[TRAIN_ROWS:]),
        "test": read_rows(args.data, "test"),
    }
    model = seeded(args.seed)
    train(model, parts, args.epochs, args.seed)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())  # low bits become zeros: git stores 57 % of the size
    for name, rows in parts.items():
        print(f"accuracy after rounding, {name}: {1 - error(model, rows):.4f}")

    from onnx_export import export
    from safetensors.torch import save

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "fashion_convnet.safetensors").write_bytes(save(model.state_dict()))
    export(model, (1, 28, 28), args.out / "fashion_convnet.onnx")


if __name__ == "__main__":
    main()
