"""Train a small convnet on scikit-learn's digits and write ``digits_convnet.onnx`` beside this file.

    python specs/models/digits_convnet.py

The network is trained on the even-numbered rows of ``load_digits()`` (0, 2, 4, …; 899 rows) and on no other. The
odd-numbered rows (898) are unseen: the network's own error, and the error of probes on its tensors, are only to be
read on those. Input ``image`` is (N, 1, 8, 8) float32, pixel / 16; output ``logits`` is (N, 10).

Takes 15 s on 2 CPU cores. Accuracy on the odd rows: 0.9722.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from onnx_export import export
from sklearn.datasets import load_digits
from torch import nn


def build() -> nn.Sequential:
    """Return the untrained network, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all 1,797 images and their digits, in scikit-learn's order."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    return torch.from_numpy(images), torch.from_numpy(digits.target.astype(np.int64))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Fit ``model`` with Adam; the learning rate falls to zero along a cosine."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of rows that ``model`` gets right."""
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).double().mean())


def main() -> None:
    """Train, print both accuracies, export."""
    parser = argparse.ArgumentParser(description="Train a small convnet on the even rows of digits; write it as ONNX.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("digits_convnet.onnx"))
    args = parser.parse_args()

    images, labels = rows()
    model = build()
    train(model, images[0::2], labels[0::2], args.epochs)
    print(f"accuracy on the even rows, which it was trained on: {accuracy(model, images[0::2], labels[0::2]):.4f}")
    print(f"accuracy on the odd rows, which it has not seen:    {accuracy(model, images[1::2], labels[1::2]):.4f}")
    export(model, (1, 8, 8), args.out)


if __name__ == "__main__":
    main()
