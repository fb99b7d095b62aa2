"""Train a network of two LSTM layers that reads Fashion-MNIST row by row; write its weights.

    apt-get install dataset-fashion-mnist       # Debian and Ubuntu; or --data FOLDER with the four *-ubyte.gz files
    python specs/models/fashion_lstm.py

An image (N, 1, 28, 28), float32, pixel / 255, is a sequence of 28 rows of 28 pixels, from the top. The logits are
read off the state after the last row alone. The network is trained on the first 50,000 training images; no choice was
made by an error.

Makes ``fashion_lstm.safetensors`` beside this file, float32 numbers that half precision can hold. As a factory,
``fashion_lstm.py:build`` gives the network as it was before training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn


class FashionLstm(nn.Module):
    """Two LSTM layers, each a module of its own so that both sequences of states can be tapped."""

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.lstm1 = nn.LSTM(28, size, batch_first=True)
        self.lstm2 = nn.LSTM(size, size, batch_first=True)
        self.logits = nn.Linear(size, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the ten logits of each image."""
        states, _ = self.lstm1(image.squeeze(1))
        states, _ = self.lstm2(states)
        return self.logits(states[:, -1])


def build() -> nn.Module:
    """Return the untrained network, always with the same weights: those that ``--seed 0`` starts from."""
    return seeded(0)


def seeded(seed: int) -> nn.Module:
    """Return the untrained network with the default weights of ``seed``, leaving torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FashionLstm()


def main() -> None:
    """Train, round, print the errors, write the weights."""
    from fashion_convnet import TRAIN_ROWS, error, read_rows
    from safetensors.torch import save

    parser = argparse.ArgumentParser(description="Train an LSTM that reads Fashion-MNIST row by row.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".safetensors"))
    args = parser.parse_args()

    images, labels = read_rows(args.data, "train")
    parts = {
        "train": (images[:TRAIN_ROWS], labels[:TRAIN_ROWS]),
        "valid": (images[TRAIN_ROWS:], labels[TRAIN_ROWS:]),
        "test": read_rows(args.data, "test"),
    }
    images, labels = parts["train"]
    model, start = seeded(args.seed), time.perf_counter()
    total = args.epochs * -(-len(images) // 128)
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=total, pct_start=0.2)
    for epoch in range(1, args.epochs + 1):
        model.train()
        for batch in torch.randperm(len(images), generator=generator).split(128):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}  valid error {error(model, parts['valid']):.4f}  ({time.perf_counter() - start:.0f} s)")

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())  # low bits become zeros: git stores 57 % of the size
    for name, rows in parts.items():
        print(f"error after rounding, {name}: {error(model, rows):.4f}")
    args.out.write_bytes(save(model.state_dict()))


if __name__ == "__main__":
    main()
