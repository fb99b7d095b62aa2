"""Export torchvision's ResNet-50 to one ONNX file, ``specs/data/resnet50.onnx`` (or ``--out``).

    python specs/models/resnet50_onnx.py --weights resnet50.pth    # a state_dict, .pth or .safetensors
    python specs/models/resnet50_onnx.py                           # random weights: for graphs, shapes and speed only

Input ``image`` is (N, 3, 224, 224) float32, normalised as the weights ask for; output ``logits`` is (N, 1000), or as
many entries as ``--classes`` says.
Nothing is downloaded. The 16 residual sums are the operators ``Add``; their names are the exporter's.

Takes 25 s on 2 CPU cores; the file has 102 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from onnx_export import export
from torchvision.models import resnet50


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state_dict; pickles may hold nothing but tensors."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def main() -> None:
    """Build, load, export; say which weights were used."""
    parser = argparse.ArgumentParser(description="Export torchvision's ResNet-50 to ONNX.")
    parser.add_argument("--weights", type=Path, help="a state_dict of torchvision's resnet50; without it, random")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--classes", type=int, default=1000, help="entries of the output")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "resnet50.onnx")
    args = parser.parse_args()
    if args.weights and not args.weights.is_file():
        parser.error(f"--weights: there is no file {args.weights}")

    torch.manual_seed(args.seed)
    model = resnet50(weights=None, num_classes=args.classes)
    if args.weights:
        model.load_state_dict(read_weights(args.weights))
        print(f"weights: {args.weights}")
    else:
        print(f"weights: random, seed {args.seed}; the network has learnt nothing")
    export(model, (3, 224, 224), args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
