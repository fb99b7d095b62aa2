"""Quantize the Fashion-MNIST convnet to int8 with ONNX Runtime's static quantizer.

    apt-get install dataset-fashion-mnist       # Debian and Ubuntu; or --data FOLDER with the four *-ubyte.gz files
    python specs/models/fashion_convnet_int8.py

Reads ``fashion_convnet.onnx`` beside this file and makes ``fashion_convnet_int8.onnx`` there: weights int8, activations
uint8, one scale a tensor, ranges from the smallest and largest values over the first 1,000 training images. Weights
have 7 bits, so that no processor's sums of products saturate and the model means the same on each.

Each rounded tensor keeps the name that it has in the float model: ``relu`` is the value after its rounding, which is
what the next layer reads, and ``relu_QuantizeLinear_Input`` is the value before. So ONNX Runtime's quantizer itself
names the outputs of a graph. A convolution and its ReLU are one step in integers: their tensor is ``relu``.

Takes some seconds. The same command makes the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = "train-images-idx3-ubyte.gz"
CALIBRATION_ROWS = 1000
HEADER = 16
BEFORE, AFTER = "_QuantizeLinear_Input", "_DequantizeLinear_Output"


class FirstImages(CalibrationDataReader):
    """Gives the first training images, a hundred at a time.

    Args:
        path: the gzipped IDX file.
        count: how many images.
    """

    def __init__(self, path: Path, count: int) -> None:
        with gzip.open(path) as stream:
            pixels = np.frombuffer(stream.read(HEADER + count * 28 * 28), dtype=np.uint8)[HEADER:]
        self.images = pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255
        self._batches = self._all()

    def _all(self) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self.images), 100):
            yield {"image": self.images[start : start + 100]}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the input's name, None after the last one."""
        return next(self._batches, None)


def quantize(source: Path, reader: FirstImages) -> onnx.ModelProto:
    """Return the quantized model, its rounded tensors by their names in the float model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            source,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        model = onnx.load(path)
    keep_names(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def keep_names(graph: onnx.GraphProto) -> None:
    """Give every rounded tensor of a graph the name of the tensor that it was made from."""
    made = {name for node in graph.node for name in node.output}
    inputs = {value.name for value in graph.input}
    new: dict[str, str] = {}
    for name in made:
        plain = name.removesuffix(AFTER)
        if plain != name and plain in made and plain not in inputs:
            new |= {plain: plain + BEFORE, name: plain}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    del graph.value_info[:]


def error(model: Path | bytes, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images that a model gets wrong."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    batches = [session.run(["logits"], {"image": batch})[0] for batch in np.array_split(images, 50)]
    return float(np.mean(np.concatenate(batches).argmax(axis=1) != labels))


def main() -> None:
    """Quantize, print both models' errors on the test images, write the file."""
    parser = argparse.ArgumentParser(description="Quantize the Fashion-MNIST convnet to int8; write it.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the file")
    args = parser.parse_args()

    if not (args.data / IMAGES).is_file():
        sys.exit(f"{args.data} has no {IMAGES}; run apt-get install dataset-fashion-mnist, or give --data")
    source = Path(__file__).with_name("fashion_convnet.onnx")
    model = quantize(source, FirstImages(args.data / IMAGES, CALIBRATION_ROWS))
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / "fashion_convnet_int8.onnx"
    onnx.save_model(model, target)

    images = FirstImages(args.data / "t10k-images-idx3-ubyte.gz", 10_000).images
    with gzip.open(args.data / "t10k-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), dtype=np.uint8)[8:]
    for path in (source, target):
        print(f"{path.name}: {path.stat().st_size:,} bytes, test error {error(path, images, labels):.4f}")


if __name__ == "__main__":
    main()
