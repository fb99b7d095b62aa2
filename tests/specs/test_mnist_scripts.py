"""What the scripts make that fetch MNIST and train the paper's convnet on it."""

import importlib.util
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays


@pytest.fixture(scope="module")
def script(specs):
    """The modules of the two scripts."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, specs / "models" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def measured(script):
    return script("mnist_idx").ink_and_slant


@given(image=arrays.arrays(np.uint8, (6, 5)))
def test_ink_is_the_mean_and_slant_that_of_the_covariance(measured, image):
    ink, slant = measured(image[None])
    assert ink[0] == pytest.approx(image.mean() / 255)
    rows = np.flatnonzero(image.sum(axis=1))
    if len(rows) < 2:  # no vertical extent
        assert slant[0] == pytest.approx(0, abs=1e-6)
        return
    y, x = np.indices(image.shape).reshape(2, -1)
    (_, shared), (_, vertical) = np.cov(np.stack([x, y]), aweights=image.ravel().astype(float), bias=True)
    assert slant[0] == pytest.approx(np.degrees(np.arctan(-shared / vertical)), abs=1e-6)


@given(lean=st.integers(-2, 2), across=st.integers(0, 3), down=st.integers(0, 3))
def test_slant_is_the_angle_of_a_stroke_wherever_it_is(measured, lean, across, down):
    image = np.zeros((10, 20), np.uint8)
    for step in range(5):  # from the top: a stroke that leans right begins on the right
        image[down + step, 8 + across - lean * (step - 2)] = 200
    assert measured(image[None])[1][0] == pytest.approx(np.degrees(np.arctan(lean)))


def test_a_package_with_other_data_is_refused(script, tmp_path):
    tarball = tmp_path / "other.tgz"
    with tarfile.open(tarball, "w:gz") as package:
        for name in script("mnist_idx").FILES:
            package.addfile(tarfile.TarInfo(f"package/data/{name}"), io.BytesIO())
    with pytest.raises(SystemExit, match="SHA-256"):
        script("mnist_idx").unpack(tarball, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other.tgz"]


def test_columns_are_those_of_the_images(script, mnist):
    columns = np.genfromtxt(mnist / "columns.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    images = np.load(mnist / "images.npy", mmap_mode="r")
    assert images.shape == (70_000, 1, 28, 28)
    assert dict(zip(*np.unique(columns["split"], return_counts=True), strict=True)) == {
        "train": 50_000, "valid": 10_000, "test": 10_000,
    }  # fmt: skip
    labels = np.fromfile(mnist / "t10k-labels-idx1-ubyte", np.uint8)[8:]
    pixels = np.fromfile(mnist / "t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
    assert np.array_equal(columns["digit"][-10_000:], labels)
    assert np.array_equal(images[-10_000:], pixels)
    assert columns["id"][60_000] == "t10k/0"
    for split in ("train", "valid", "test"):
        rows = columns["split"] == split
        assert np.array_equal(np.sort(columns["digit"][rows]), np.sort(columns["random"][rows]))
        # Shares of agreement by chance: sum of squared shares of the ten digits, .1.
        assert np.mean(columns["digit"][rows] == columns["random"][rows]) == pytest.approx(0.1, abs=0.015)


def test_the_network_is_that_of_the_papers_figure_2(script):
    import torch

    network = script("mnist_convnet").build().eval()
    shapes = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda *seen, name=name: shapes.update({name: tuple(seen[2].shape[1:])}))
    with torch.no_grad():
        network(torch.zeros(2, 1, 28, 28))
    assert list(shapes.items()) == [
        ("conv1", (32, 28, 28)), ("relu1", (32, 28, 28)), ("pool1", (32, 14, 14)),
        ("conv2", (64, 14, 14)), ("relu2", (64, 14, 14)), ("pool2", (64, 7, 7)), ("flatten", (3136,)),
        ("fc1", (512,)), ("relu3", (512,)), ("dropout", (512,)), ("logits", (10,)),
    ]  # fmt: skip
    # 5·5·32 + 32, 5·5·32·64 + 64, 3136·512 + 512, 512·10 + 10
    assert sum(each.numel() for each in network.parameters()) == 1_663_370


def test_training_starts_where_the_factory_does(script, cut_checkpoints):
    import torch
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = script("mnist_convnet").build().state_dict()
    initial, trained = (load_file(cut_checkpoints / f"{name}.safetensors") for name in ("initial", "trained"))
    assert built.keys() == initial.keys() == trained.keys()
    for name, values in initial.items():
        assert torch.equal(values, built[name])
        assert not torch.equal(values, trained[name])
        if name.endswith("weight"):
            assert values.abs().max() <= 0.2
            # A normal distribution of deviation .1, cut at two deviations, has deviation .0880.
            assert values.std().item() == pytest.approx(0.088, rel=0.06)


def test_without_mnist_training_says_what_fetches_it(specs, tmp_path):
    command = [sys.executable, specs / "models" / "mnist_convnet.py", "--data", tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "python specs/models/mnist_idx.py" in done.stderr
