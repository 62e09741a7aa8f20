"""A trainer for several machines: it takes its place in the world from torchrun.

Ultralytics starts its own processes on one machine and counts its devices there. Under torchrun the
stock trainer joins with a global rank and the local number of devices, which cannot be; it also
chooses the run's folder in every process by itself. This one asks the launcher. It wraps nothing:
``yolograft train`` hands it to Ultralytics where torchrun has started the process.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import distributed, nn
from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.utils import DEFAULT_CFG_DICT, LOCAL_RANK, RANK
from ultralytics.utils.torch_utils import strip_optimizer

from yolograft.errors import refuse
from yolograft.training import watch
from yolograft.ultra import with_globals
from yolograft.warm import freeze


@contextlib.contextmanager
def group(device: str | int | None) -> Iterator[str]:
    """Join the other processes, and leave them at the end.

    Args:
        device: ``cpu``, or this machine's GPUs, such as ``0,1``; one for each process when left
            out.

    Yields:
        The device as Ultralytics is to be given it.

    Raises:
        ConfigError: If there is not one GPU for each process of this machine, or if some processes
            are to use GPUs and others the CPU.
    """
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if device is None:
        device = ",".join(map(str, range(min(torch.cuda.device_count(), here)))) or "cpu"
    device = re.sub(r"cuda:|[\[\]() ]", "", str(device))
    if device == "cpu":
        backend = "gloo"
    else:
        named = device.split(",")
        if len(named) != here or not all(n.isdigit() for n in named):
            refuse(
                f"device={device}, but torchrun has started {here} processes on this machine",
                "name as many GPUs as --nproc-per-node says, such as --device "
                + ",".join(map(str, range(here))),
            )
        count = torch.cuda.device_count()
        if max(map(int, named)) >= count:
            refuse(
                f"device={device}, but this machine has {count or 'no'} GPUs that PyTorch can use",
                "name other GPUs, or --device cpu on every machine",
            )
        torch.cuda.set_device(int(named[LOCAL_RANK]))
        backend = "nccl" if distributed.is_nccl_available() else "gloo"
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # a lost machine ends the others too
    kinds = watch.exchange("device", "cpu" if device == "cpu" else "a GPU")
    if len({*kinds}) > 1:
        refuse(
            f"process {kinds.index('cpu')} would use cpu, process {kinds.index('a GPU')} a GPU",
            "give the same --device on every machine",
        )
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("group", watch.store()),
        rank=int(os.environ["RANK"]),
        world_size=len(kinds),
        timeout=watch.TIMEOUT,
    )
    try:
        yield device
    except BaseException as error:
        watch.report(error)  # leaving the group may wait for the others
        raise
    finally:
        distributed.destroy_process_group()


def changed(args: SimpleNamespace) -> dict[str, Any]:
    """Return the arguments of a run that are not Ultralytics' defaults.

    Args:
        args: Of a trainer.
    """
    return {k: v for k, v in vars(args).items() if DEFAULT_CFG_DICT.get(k, v) != v}


class _OnCpu(nn.parallel.DistributedDataParallel):
    """Without the index of a GPU, which the host always gives."""

    def __init__(self, module: nn.Module, device_ids: list | None = None, **kwargs):
        super().__init__(module, **kwargs)


class _View:
    """A module of which some names mean something else."""

    def __init__(self, module: ModuleType, **others: Any):
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def across(trainer: type) -> type:
    """Return a trainer that works across machines.

    Args:
        trainer: Ultralytics' trainer of a task.
    """

    class Across(trainer):
        def __init__(self, cfg=None, overrides=None, _callbacks=None):
            overrides = dict(overrides)
            if not overrides.get("resume"):  # else the checkpoint knows the folder
                folder = [str(get_save_dir(get_cfg(overrides=overrides))) if RANK == 0 else None]
                distributed.broadcast_object_list(folder)
                overrides["save_dir"] = folder[0]
            super().__init__({**DEFAULT_CFG_DICT, "save_dir": ""}, overrides, _callbacks)
            self.world_size, self.ddp = distributed.get_world_size(), False

        def _setup_ddp(self):
            if self.device.type != "cpu":
                self.device = torch.device("cuda", torch.cuda.current_device())

        def _setup_train(self, *args):
            if self.device.type != "cpu":
                return super()._setup_train(*args)
            ours = _View(nn, parallel=_View(nn.parallel, DistributedDataParallel=_OnCpu))
            with freeze.as_given(self):
                return with_globals(inspect.unwrap(trainer._setup_train), nn=ours)(self, *args)

        def final_eval(self):
            """Make the checkpoints small; who called validates the best one, in one process."""
            if RANK == 0:
                last = strip_optimizer(self.last) if self.last.exists() else {}
                if self.best.exists():
                    results = last.get("train_results")
                    strip_optimizer(self.best, updates={"train_results": results})

    return Across
