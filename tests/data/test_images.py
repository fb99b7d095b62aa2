"""Image files against Pillow and torchvision."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from probekit.data.images import SUFFIXES, ImageExamples, ImagePreprocess, ImagesDataset

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or noise(4, 4)).save(path)
    return path


def decoded(path: Path, **options: object) -> npt.NDArray[np.float32]:
    """Return one file's pixels before normalisation, (channels, height, width)."""
    preprocess = ImagePreprocess.model_validate({"scale": 1.0, **options})
    return ImageExamples({"id": np.array(["0"])}, [path], preprocess).read(np.array([0]))["image"][0]


# --- preprocessing


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    resize=st.none() | st.integers(1, 40),
    crop=st.none() | st.integers(1, 50),
    mode=st.sampled_from(["RGB", "L"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_are_torchvisions_before_normalisation(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    resize: int | None,
    crop: int | None,
    mode: str,
    seed: int,
) -> None:
    image = noise(width, height, seed)
    path = save(tmp_path_factory.getbasetemp() / "pixels.png", image)
    steps = [*([Resize(resize)] if resize else []), *([CenterCrop(crop)] if crop else [])]
    expected = np.asarray(Compose(steps)(image.convert(mode)))
    expected = expected[None] if mode == "L" else np.moveaxis(expected, 2, 0)
    result = decoded(path, resize=resize, center_crop=crop, mode=mode)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (256, 256), (224, 1000), (100, 90)])
def test_the_usual_preprocessing_of_imagenet_is_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    image = noise(*size)
    path = save(tmp_path / "x.png", image)
    expected = Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)])(image)
    options = ImagePreprocess(resize=256, center_crop=224, mean=MEAN, std=STD)
    result = ImageExamples({"id": np.array(["0"])}, [path], options).read(np.array([0]))["image"]
    assert (result.shape, result.dtype) == ((1, 3, 224, 224), np.float32)
    np.testing.assert_allclose(result[0], expected.numpy(), rtol=1e-5, atol=1e-6)
    pixels = np.moveaxis(np.asarray(Compose([Resize(256), CenterCrop(224)])(image)), 2, 0)
    np.testing.assert_array_equal(decoded(path, resize=256, center_crop=224), pixels)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_is_decoded_as_pillow_does(tmp_path: Path, suffix: str, mode: str) -> None:
    path = save(tmp_path / f"x{suffix}", noise(9, 5))
    with Image.open(path) as file:
        expected = np.asarray(file.convert(mode))
    assert decoded(path, mode=mode).shape == ((3, 5, 9) if mode == "RGB" else (1, 5, 9))
    np.testing.assert_array_equal(np.moveaxis(decoded(path, mode=mode), 0, 2).squeeze(), expected)


@pytest.mark.parametrize("stored", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_stored_mode_becomes_three_channels_as_torchvision_loads_it(tmp_path: Path, stored: str) -> None:
    suffix = "tif" if stored == "CMYK" else "png"
    image = noise(9, 5).convert("L") if stored == "I;16" else noise(9, 5)
    path = save(tmp_path / f"x.{suffix}", image.convert(stored))
    expected = torchvision.datasets.folder.pil_loader(str(path))
    np.testing.assert_array_equal(decoded(path), np.moveaxis(np.asarray(expected), 2, 0))


def test_a_crop_beyond_the_image_is_filled_with_black() -> None:
    image = Image.new("RGB", (5, 5), "white")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    examples = ImageExamples({"id": np.array(["0"])}, [stream], ImagePreprocess(center_crop=8))  # type: ignore[list-item]
    filled = examples.read(np.array([0]))["image"][0, 0]
    assert filled.sum(axis=0).tolist() == filled.sum(axis=1).tolist() == [0, 5, 5, 5, 5, 5, 0, 0]


# --- folders


def test_a_folder_has_the_files_and_classes_of_torchvisions_image_folder(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/a.JPG", "cat/deep/er/c.webp", "cat/a.png", "Ant/x.bmp", "cat/deep/d.ppm"):
        save(tmp_path / name)
    (tmp_path / "dog/notes.txt").write_text("no image")
    save(tmp_path / "top.png")
    examples = ImagesDataset(path=str(tmp_path)).open()
    folder = torchvision.datasets.ImageFolder(str(tmp_path))
    expected = {Path(path).relative_to(tmp_path).as_posix(): folder.classes[label] for path, label in folder.samples}
    assert dict(zip(examples.columns["id"], examples.columns["label"], strict=True)) == expected
    assert len(examples) == len(expected) == 6
    assert list(examples.columns["id"]) == sorted(examples.columns["id"], key=lambda name: name.split("/"))


def test_rows_are_decoded_in_the_order_asked(tmp_path: Path) -> None:
    for shade, name in enumerate(["a/0.png", "a/1.png", "b/2.png"]):
        save(tmp_path / name, Image.new("RGB", (2, 2), (shade, shade, shade)))
    examples = ImagesDataset(path=str(tmp_path), preprocess=ImagePreprocess(scale=1.0)).open()
    assert examples.read(np.array([2, 0, 2, 1]))["image"][:, 0, 0, 0].tolist() == [2, 0, 2, 1]


def test_opening_decodes_nothing(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/y.png"):
        save(tmp_path / name).write_bytes(b"no image")
    assert ImagesDataset(path=str(tmp_path)).open().columns["label"].tolist() == ["a", "b"]


def test_an_absent_folder_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = str(tmp_path / "absent")
    assert refused(ImagesDataset(path=path).open) == [("PK-M01", f"no folder {path!r}")]


def test_a_folder_without_images_is_refused(tmp_path: Path, refused: Refused) -> None:
    save(tmp_path / "top.png")
    (tmp_path / "class").mkdir()
    endings = "'.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'"
    hint = f"one sub-folder a class, files ending in {endings}"
    message = f"no image in the sub-folders of {str(tmp_path)!r}; {hint}"
    assert refused(ImagesDataset(path=str(tmp_path)).open) == [("PK-L18", message)]


# --- tables


def test_a_table_names_the_files(tmp_path: Path) -> None:
    for shade, name in enumerate(["x.png", "deep/y.png"]):
        save(tmp_path / "images" / name, Image.new("RGB", (2, 2), (shade, shade, shade)))
    (tmp_path / "table.csv").write_text("file,label,id\ndeep/y.png,cat,7\nx.png,dog,8\n")
    dataset = ImagesDataset(
        path=str(tmp_path / "images"),
        table=str(tmp_path / "table.csv"),
        path_column="file",
        preprocess=ImagePreprocess(scale=1.0),
    )
    examples = dataset.open()
    assert examples.columns["id"].tolist() == ["deep/y.png", "x.png"]
    assert examples.columns["label"].tolist() == ["cat", "dog"]
    assert examples.read(np.array([0, 1]))["image"][:, 0, 0, 0].tolist() == [1, 0]


def test_absent_files_of_a_table_are_counted_and_named(tmp_path: Path, refused: Refused) -> None:
    save(tmp_path / "x.png")
    (tmp_path / "table.csv").write_text("path\nx.png\n" + "".join(f"{n}.png\n" for n in range(7)))
    dataset = ImagesDataset(path=str(tmp_path), table=str(tmp_path / "table.csv"))
    names = "'0.png', '1.png', '2.png', '3.png', '4.png' and 2 more"
    assert refused(dataset.open) == [("PK-L18", f"7 files of the table are absent: {names}")]


def test_a_table_without_the_path_column_is_refused(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "table.csv").write_text("paths\nx.png\n")
    dataset = ImagesDataset(path=str(tmp_path), table=str(tmp_path / "table.csv"))
    assert refused(dataset.open) == [("PK-L16", "no column 'path'; did you mean 'paths'?")]


# --- L18: what cannot be decoded


def test_unreadable_images_are_counted_and_named(tmp_path: Path, refused: Refused) -> None:
    good = save(tmp_path / "a/good.png")
    cut, text = tmp_path / "a/cut.png", tmp_path / "a/text.png"
    cut.write_bytes(good.read_bytes()[:50])
    text.write_text("hello")
    examples = ImagesDataset(path=str(tmp_path)).open()
    with Image.open(cut) as file, pytest.raises(OSError, match="truncated") as caught:
        file.load()
    reasons = f""""{text}: cannot identify image file '{text}'\""""
    message = f"2 of 3 images cannot be decoded: '{cut}: {caught.value}', {reasons}"
    assert refused(lambda: examples.read(np.arange(3))) == [("PK-L18", message)]
    assert examples.read(np.array([1]))["image"].shape == (1, 3, 4, 4)


def test_an_image_that_claims_a_huge_size_is_not_decoded(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a/x.png", noise(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    examples = ImagesDataset(path=str(tmp_path)).open()
    reason = "Image size (900 pixels) exceeds limit of 800 pixels, could be decompression bomb DOS attack."
    message = f"1 of 1 images cannot be decoded: '{path}: {reason}'"
    assert refused(lambda: examples.read(np.array([0]))) == [("PK-L18", message)]


def test_images_of_different_sizes_are_refused(tmp_path: Path, refused: Refused) -> None:
    save(tmp_path / "a/x.png", noise(4, 6))
    save(tmp_path / "a/y.png", noise(5, 6))
    examples = ImagesDataset(path=str(tmp_path)).open()
    fact = "images of different sizes in one batch: '(3, 6, 4)', '(3, 6, 5)'"
    message = f"{fact}; give data.preprocess a resize and a center_crop"
    assert refused(lambda: examples.read(np.arange(2))) == [("PK-M20", message)]


def test_a_mean_for_another_number_of_channels_is_refused(tmp_path: Path, refused: Refused) -> None:
    save(tmp_path / "a/x.png")
    options = ImagePreprocess(mode="L", mean=[0.5], std=[0.1, 0.2, 0.3])
    examples = ImagesDataset(path=str(tmp_path), preprocess=options).open()
    message = "preprocess.std has 3 numbers for 1 channels; give one number, or one a channel"
    assert refused(lambda: examples.read(np.array([0]))) == [("PK-L22", message)]


# --- digests


def digests(*paths: Path, **options: object) -> list[bytes]:
    """Return the digests of those files under one preprocessing."""
    examples = ImageExamples({"id": np.arange(len(paths))}, list(paths), ImagePreprocess.model_validate(options))
    return examples.digests(np.arange(len(paths)))


def test_a_digest_is_of_the_files_bytes_not_of_its_name(tmp_path: Path) -> None:
    one, other = save(tmp_path / "a/x.png", noise(4, 4)), save(tmp_path / "b/y.png", noise(4, 4, seed=1))
    copy = tmp_path / "z.gif"
    copy.write_bytes(one.read_bytes())
    first, second, third = digests(one, copy, other)
    assert first == second != third
    assert (len(first), len(third)) == (16, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"resize": 3},
        {"center_crop": 3},
        {"mode": "L"},
        {"scale": 1.0},
        {"mean": [0.5]},
        {"std": [0.5]},
        {"mean": [0.5, 0.5, 0.25]},
    ],
    ids=str,
)
def test_another_preprocessing_gives_another_digest(tmp_path: Path, options: dict[str, object]) -> None:
    path = save(tmp_path / "x.png")
    assert digests(path, **options) == digests(path, **options)
    assert digests(path, **options) != digests(path)


def test_the_digest_of_a_file_changes_with_its_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", noise(4, 4))
    before = digests(path)
    save(path, noise(4, 4, seed=1))
    assert digests(path) != before


def test_digests_come_in_the_order_asked_and_decode_nothing(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/y.png"):
        save(tmp_path / name).write_bytes(name.encode())
    examples = ImagesDataset(path=str(tmp_path)).open()
    first, second = examples.digests(np.arange(2))
    assert first != second
    assert examples.digests(np.array([1, 0, 1])) == [second, first, second]


def test_a_file_that_cannot_be_read_has_a_digest_of_its_own(tmp_path: Path) -> None:
    there, gone, lost = save(tmp_path / "x.png"), tmp_path / "gone.png", tmp_path / "lost.png"
    whole, first, second = digests(there, gone, lost)
    assert len({whole, first, second}) == 3
    assert digests(gone) == [first]
    save(gone)
    assert digests(gone) == [whole]
