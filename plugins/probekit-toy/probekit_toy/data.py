"""A dataset and a label factor."""

from typing import Literal

import numpy as np
from pydantic import Field

from probekit import Dataset, Examples, LabelFactor, Labels, hookimpl


class BlobsDataset(Dataset):
    """Points around a few centres, as ``x`` (examples, dimensions). Columns: ``label``, the centre's number."""

    kind: Literal["toy_blobs"] = "toy_blobs"
    examples: int = Field(600, ge=2, description="how many")
    centres: int = Field(4, ge=2, description="how many")
    dimensions: int = Field(8, ge=1, description="how many")
    seed: int = Field(0, ge=0, description="of the draw")

    def open(self):
        rng = np.random.default_rng(self.seed)
        label = rng.integers(self.centres, size=self.examples)
        centres = 2 * rng.standard_normal((self.centres, self.dimensions))
        x = centres[label] + rng.standard_normal((self.examples, self.dimensions))
        return Examples({"label": label}, {"x": x.astype(np.float32)})


class ParityFactor(LabelFactor):
    """Whether a column of whole numbers is even or odd."""

    kind: Literal["toy_parity"] = "toy_parity"
    column: str = Field("label", description="the dataset's column")

    def label(self, columns):
        return Labels.of(["odd" if int(value) % 2 else "even" for value in columns[self.column]])


@hookimpl
def register_datasets():
    return [BlobsDataset]


@hookimpl
def register_label_factors():
    return [ParityFactor]
