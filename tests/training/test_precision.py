"""bf16 rounds the operands of matrix products and nothing else; float32 is untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from georecon.errors import ConfigError
from georecon.experiments.config import load_config
from georecon.experiments.settings import EncoderSettings
from georecon.models.potential import PropertyModel
from georecon.training import precision
from georecon.training.precision import READ_OUT, check_precision, products
from tests.toy_graphs import random_batch
from tests.training.test_resume import last
from tests.training.toy_run import make_task, run

ROOT = Path(__file__).resolve().parents[2]
SIZES = EncoderSettings(channels=32, layers=2, heads=2, rbf=16, max_z=20)


def model() -> PropertyModel:
    torch.manual_seed(0)
    atomref = torch.zeros(SIZES.max_z)
    return PropertyModel(SIZES, "scalar", scale=1.0, shift=0.0, atomref=atomref)


def test_float32_is_the_plain_forward_pass() -> None:
    graph, net = random_batch(1, torch.float32), model()
    with products("float32"):
        assert torch.equal(net(graph), model()(graph))


def test_a_product_has_rounded_operands_and_a_float32_result() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=generator) for s in ((9, 64), (READ_OUT, 64), 16))
    with products("bf16"):
        found = functional.linear(x, weight, bias)
    exact = functional.linear(x.bfloat16().double(), weight.bfloat16().double()) + bias
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=2**-8, atol=2**-8)
    assert not torch.equal(found, functional.linear(x, weight, bias))


def test_read_outs_stay_exact() -> None:
    x, weight = torch.randn(9, 64), torch.randn(READ_OUT - 1, 64)
    with products("bf16"):
        assert torch.equal(functional.linear(x, weight), functional.linear(x, weight))
        found = functional.linear(x, weight)
    assert torch.equal(found, functional.linear(x, weight))


class Dtypes(TorchFunctionMode):
    """Notes which functions return bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.bfloat16:
            self.found.add(getattr(func, "__name__", str(func)))
        return result


def test_nothing_but_products_is_in_bfloat16() -> None:
    with Dtypes() as seen, products("bf16"):
        energy, forces = model().energy_and_forces(random_batch(1, torch.float32), training=True)
        (energy.sum() + forces.square().sum()).backward()
    assert seen.found == {"to", "linear"}
    assert energy.dtype == forces.dtype == torch.float32


def test_results_are_close_and_gradients_reach_every_weight() -> None:
    graph, plain, mixed = random_batch(1, torch.float32), model(), model()
    plain(graph).sum().backward()
    with products("bf16"):
        loss = mixed(graph).sum()
    loss.backward()
    gradients = [
        torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        for net in (plain, mixed)
    ]
    assert gradients[0].shape == gradients[1].shape
    assert 1e-5 < float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.05


@pytest.mark.skipif(
    not precision._CPU_FLAGS & precision._cpu_flags(), reason="no bfloat16 products here"
)
def test_a_run_in_bf16_learns_like_one_in_float32(toy_store: Path, tmp_path: Path) -> None:
    check_precision("bf16", "cpu")
    scores = {}
    for name in ("float32", "bf16"):
        result = run(make_task(toy_store, channels=32), tmp_path / name, precision=name)
        scores[name] = result.best_score
        assert result.facts()["training"]["precision"] == name
        kinds = {t.dtype for t in last(tmp_path / name).tensors.values()}
        assert kinds == {torch.float32}
    assert scores["bf16"] != scores["float32"]
    assert scores["bf16"] == pytest.approx(scores["float32"], rel=0.02)


def test_hardware_without_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\nflags\t\t: fpu avx2 avx512f\n")
    flags = precision._cpu_flags(cpuinfo)
    assert flags == {"fpu", "avx2", "avx512f"}
    assert precision._cpu_flags(tmp_path / "none") == set()
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    check_precision("float32", "cpu")
    with pytest.raises(ConfigError, match=r"no bfloat16 matrix products.*allowed here: float32"):
        check_precision("bf16", "cpu")


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fp16'; allowed: float32, bf16"):
        check_precision("fp16", "cpu")


@pytest.mark.parametrize("edition", ["laptop", "paper"])
def test_the_example_configuration_lies_over_any_edition(edition: str) -> None:
    from georecon.experiments.yaml_files import read_yaml

    given = {**read_yaml(ROOT / "config/bf16.yaml"), "edition": edition}
    config = load_config(ROOT / "config", given)
    assert config.pretrain.train.precision == "bf16"
    assert config.finetune.sets["property"].train.precision == "bf16"
    assert config.finetune.sets["force"].train.precision == "float32"
