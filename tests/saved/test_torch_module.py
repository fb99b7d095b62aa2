"""A PyTorch module with a probe gives what features from hooks and the saved probe give, and stays as it was."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from probekit import load_probe
from probekit.backends.torch_reduced import reducing
from probekit.components import Tap, Wanted
from probekit.steps import Flatten, Last, MatMul, Max, Mean, Positions, Program, Std, Take, program_shape

RNG = np.random.default_rng(0)


class Images(nn.Module):
    """A convolution with dropout and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, image):
        """Scores of shape (batch, 5)."""
        return self.head(self.drop(self.relu(self.relu(self.norm(self.conv(image))) - 0.1)).flatten(1))


class Words(nn.Module):
    """Embeddings, with a mask that need not be given."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, ids, attention=None):
        """Sums of shape (batch, 4) in a dict."""
        found = self.table(ids)
        return {"sum": found.sum(1) if attention is None else (found * attention[..., None]).sum(1)}


def seeded(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


IMAGE = Tap("conv", "Conv2d", (4, 6, 6), "float32", "NCHW", 1)
CASES: dict[str, tuple[str, Program]] = {
    "pool": ("conv", (Mean((2, 3)), Flatten())),
    "second call": ("relu#1", (Max((2, 3)), Flatten())),
    "std": ("norm", (Std((2, 3)), Flatten())),
    "taken in": ("head:in", (Flatten(),)),
    "subset": ("relu", (Flatten(), Take(np.array([0, 17, 143])))),
    "project": ("drop", (Flatten(), MatMul(RNG.normal(size=(144, 6)).astype(np.float32)))),
    "positions": ("conv", (Positions((2, 3)), Flatten())),
    "input": ("image", (Flatten(),)),
    "output": ("output", (Flatten(),)),
}
SHAPES = {"image": (3, 6, 6), "output": (5,), "head:in": (144,)}


@pytest.fixture
def saved(make_run, linear, tmp_path):
    """Save one probe of a tap and load it."""

    def made(tap, program, *, task="classes", sources=None):
        run = make_run(tmp_path / "run")
        width = program_shape(program, tap.shape)[0]
        probe = linear(1 if task == "number" else 3, width)
        run.add(probe, tensor=tap, program=program, width=width, task=task, classes=() if task == "number" else "abc")
        names = sources or {"image": "image"}
        run.fed(names, {name: np.zeros((2, 5)) for name in names})
        return load_probe(run.write(), "hidden", "animal")

    return made


def from_features(probe, module, feed, masks=None):
    wanted: Wanted = probe.wanted()
    with reducing(module, [wanted]) as run:
        (features,) = run(feed, masks or {})
    return probe.predict_proba(features) if probe.task != "number" else probe.predict(features)[:, None]


def images(count=4):
    return RNG.normal(size=(count, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_the_probabilities_are_those_of_features_from_the_store(saved, name):
    tap, program = CASES[name]
    probe = saved(Tap(tap, "X", SHAPES.get(tap, (4, 6, 6)), "float32", "NCHW"), program)
    module, feed = seeded(Images), {"image": images()}
    output, found = probe.attach(module)(torch.tensor(feed["image"]))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), from_features(probe, module, feed), atol=1e-6)
    torch.testing.assert_close(output, module(torch.tensor(feed["image"])))


@pytest.mark.parametrize("task", ["classes", "multilabel", "number"])
def test_every_task(saved, task):
    probe = saved(IMAGE, (Mean((2, 3)), Flatten()), task=task)
    module, feed = seeded(Images), {"image": images()}
    _, found = probe.attach(module)(image=torch.tensor(feed["image"]))
    np.testing.assert_allclose(found.numpy(), from_features(probe, module, feed), rtol=1e-6, atol=1e-6)


def test_nothing_of_the_module_changes(saved):
    module = seeded(Images)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    described, keys = repr(module), set(vars(module))
    probed = saved(IMAGE, (Mean((2, 3)), Flatten())).attach(module)
    probed(torch.tensor(images()))
    with pytest.raises(RuntimeError):
        probed(torch.zeros(1, 2))
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert (repr(module), set(vars(module))) == (described, keys)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    assert not module.training


def test_gradients_of_the_module_are_as_without_the_probe(saved):
    module, x = seeded(Images), torch.tensor(images())
    plain = torch.autograd.grad(module(x).sum(), module.conv.weight)[0]
    output, found = saved(IMAGE, (Mean((2, 3)), Flatten())).attach(module)(x)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), module.conv.weight)[0], plain)
    assert not found.requires_grad
    with torch.inference_mode():
        again = saved(IMAGE, (Mean((2, 3)), Flatten())).attach(module)(x)[1]
    torch.testing.assert_close(again, found)


def test_it_is_copied_and_pickled_with_its_module(saved):
    probed = saved(IMAGE, (Flatten(),)).attach(seeded(Images))
    x = torch.tensor(images())
    first = probed(x)[1]
    for again in (pickle.loads(pickle.dumps(probed)), copy.deepcopy(probed)):
        torch.testing.assert_close(again(x)[1], first)
        assert again.module is not probed.module


IDS = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
KEPT = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize("step", [Mean((1,), "kept"), Last(1, "kept"), Positions((1,), "kept")])
def test_a_mask_is_an_argument_of_the_module_or_is_given(saved, step):
    tap = Tap("table", "Embedding", (5, 4), "float32", "NTC")
    probe = saved(tap, (step, Flatten()), sources={"ids": "ids", "attention": "kept"})
    module = seeded(Words)
    expected = from_features(probe, module, {"ids": IDS.numpy()}, {"kept": KEPT.numpy()})
    probed = probe.attach(module)
    for found in (probed(IDS, KEPT), probed(IDS, attention=KEPT), probed(IDS, probe_masks={"kept": KEPT})):
        np.testing.assert_allclose(found[1].numpy(), expected, atol=1e-6)


def test_an_absent_mask_is_refused(saved, refused):
    probe = saved(Tap("table", "E", (5, 4), "float32", "NTC"), (Mean((1,), "kept"), Flatten()), sources={"ids": "ids"})
    (problem,) = refused(lambda: probe.attach(seeded(Words))(IDS))
    assert problem == ("PK-M54", "the probe's features need the mask 'kept'; give probe_masks={'kept': tensor}")


def test_a_module_without_the_tap_is_refused(saved, refused):
    probe = saved(Tap("conv1", "Conv2d", (4, 6, 6), "float32"), (Flatten(),))
    (problem,) = refused(lambda: probe.attach(seeded(Images)))
    assert problem[0] == "PK-M26"
    assert "the module has no tap 'conv1'; did you mean 'conv'?" in problem[1]


def test_a_tap_that_is_not_reached_is_told(saved, refused):
    probe = saved(Tap("conv#3", "Conv2d", (4, 6, 6), "float32"), (Flatten(),))
    (problem,) = refused(lambda: probe.attach(seeded(Images))(torch.tensor(images())))
    assert problem[0] == "PK-M26"


def test_inputs_of_another_size_are_told(saved, refused):
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(x)

    probe = saved(IMAGE, (Flatten(),))
    (problem,) = refused(lambda: probe.attach(Any().eval())(torch.zeros(2, 3, 8, 8)))
    assert problem[0] == "PK-M20"
    assert "(2, 4, 8, 8)" in problem[1]
