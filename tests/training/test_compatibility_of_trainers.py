"""Settings that would train incorrectly are refused before the first step, with the reason."""

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from shard_data import CLASSES
from torch import nn

from harmonizer.training.compatibility import check_compatible
from harmonizer.training.module import HarmonizerModule


def module():
    return HarmonizerModule("test_resnet", CLASSES, 32, harmonize=True)


def trainer(**settings):
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)


def refused(message, run, model, *, harmonize=True):
    with pytest.raises(ValueError, match=message):
        check_compatible(run, model, harmonize=harmonize)


def test_supported_settings_are_accepted():
    for settings in ({}, {"precision": "bf16-mixed"}, {"strategy": "ddp", "devices": 2, "accumulate_grad_batches": 2}):
        check_compatible(trainer(**settings), module(), harmonize=True)


def test_sync_batchnorm_is_refused_with_harmonize():
    model = module()
    model.model = nn.SyncBatchNorm.convert_sync_batchnorm(model.model)
    refused("SyncBatchNorm has no second derivative", trainer(), model)
    check_compatible(trainer(), model, harmonize=False)


def test_compiled_models_are_refused_with_harmonize():
    model = module()
    model.model = torch.compile(model.model)
    refused("compiled code has no second derivative", trainer(), model)
    check_compatible(trainer(), model, harmonize=False)
    model = module()
    model.model.compile()
    refused("compiled code has no second derivative", trainer(), model)


def test_static_graph_is_refused_except_for_plain_steps():
    strategy = DDPStrategy(static_graph=True)
    accumulating = trainer(strategy=strategy, devices=2, accumulate_grad_batches=2)
    for harmonize in (False, True):
        refused("static_graph does not work with accumulate_grad_batches", accumulating, module(), harmonize=harmonize)
    plain = trainer(strategy=DDPStrategy(static_graph=True), devices=2)
    refused("static_graph does not work with harmonize", plain, module())
    check_compatible(plain, module(), harmonize=False)
    with pytest.raises(ValueError, match="static_graph does not work with adversarial"):
        check_compatible(plain, module(), harmonize=False, adversarial=True)


@pytest.mark.parametrize("precision", ["bf16-true"])
def test_half_precision_weights_are_refused(precision):
    for harmonize in (False, True):
        refused("use bf16-mixed", trainer(precision=precision), module(), harmonize=harmonize)


def test_fsdp_is_refused_with_harmonize_and_adversarial(monkeypatch):
    run = trainer()
    monkeypatch.setattr(type(run), "strategy", FSDPStrategy())
    refused("FSDPStrategy does not work with harmonize: the second derivatives need weights", run, module())
    with pytest.raises(ValueError, match="FSDPStrategy does not work with adversarial: the attack's backward passes"):
        check_compatible(run, module(), harmonize=False, adversarial=True)


def shard_and_differentiate_twice(rank, folder):
    """Differentiate twice under FSDP2, set up as Lightning does."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)), reshard_after_forward=False)
    images = torch.rand(4, 8, requires_grad=True)
    (saliency,) = torch.autograd.grad(model(images).sum(), images, create_graph=True)
    try:
        saliency.square().sum().backward()
    except RuntimeError as error:
        (folder / f"{rank}").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.slow
def test_fsdp_frees_weights_before_the_second_derivative(tmp_path):
    # When this fails, FSDP supports second derivatives and the refusal can be removed.
    mp.start_processes(shard_and_differentiate_twice, (tmp_path,), nprocs=2, start_method="spawn")
    for rank in range(2):
        assert "storage of size 0" in (tmp_path / str(rank)).read_text()
