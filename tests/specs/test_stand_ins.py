"""What stands in for ResNet-50 on ImageNet: the sixteen blocks of EfficientNet-Lite0 on groups of emoji."""

from importlib.util import find_spec

import pytest
from scipy.stats import kendalltau

from probekit import Plugins, load_spec, run_spec


@pytest.mark.slow
def test_the_error_falls_over_the_sixteen_blocks(specs, need, tmp_path):
    """The claim of figure 4: almost perfectly monotonic."""
    folder = specs / "data" / "efficientnet_lite0"
    there = (folder / "images.npy").is_file() and find_spec("efficientnet_lite_pytorch") is not None
    need(there, "python specs/models/efficientnet_lite0_emoji_arrays.py")
    plugins = Plugins()
    loaded = load_spec(specs / "efficientnet_lite0_emoji.yaml", plugins, ("labels.luminance=null",), trust_code=True)
    result = run_spec(loaded, plugins, tmp_path).result
    error = {one.tap: one.error["test"] for one in result.probes}
    blocks = [error[f"block_{number}"] for number in range(1, 17)]
    tau = kendalltau(range(16), blocks)
    assert tau.statistic < -0.85
    assert tau.pvalue < 1e-4
    assert blocks[0] - blocks[-1] > 0.25
    assert error["image"] > max(blocks)
