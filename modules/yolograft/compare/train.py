"""The trainer of a run: the stock one, with a start and an order of data that runs can share.

**Start.** The base is initialised from the seed. A variant is initialised from the same seed, then
takes over what it shares with the base: the rows that a graft kept. From a base that is a
checkpoint, a variant takes over what a warm start carries.

**Order.** A run is cut into legs, a tenth of its epochs each. At the start of a leg the random
generators and the order of the images are set from seed and epoch alone, and the loader starts
again: variants see the same images in the same order with the same augmentation.

**Continuation.** At the end of a leg everything is stored in full precision: weights, their moving
average, optimizer, scaler, the best so far. As a leg starts from that and from nothing else, a run
that was killed ends in the numbers of an undisturbed one. Ultralytics' own resuming does not:
it stores half precision and no generators.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from ultralytics.utils import LOGGER

from yolograft import files
from yolograft.compare import evaluate
from yolograft.compare.records import TrainJob, Variant
from yolograft.compare.variants import load_checkpoint
from yolograft.errors import ConfigError
from yolograft.warm import transplant

#: Legs of a run; more of them lose less when it is killed, and store more often.
LEGS = 10


def trainer_of(task: str) -> type:
    """Return the trainer for a task.

    Args:
        task: As in ``YOLO.task_map``.
    """
    from ultralytics import YOLO

    stock = YOLO.task_map.fget(None)[task]["trainer"]
    return type("RunTrainer", (_Run, stock), {"job": None})


class _Run:
    """What a run adds to the stock trainer; ``job`` is set on the class before it is made."""

    job: TrainJob
    first = over = closed = False  # first batch of a leg; all epochs done; no more mosaic
    usual: int | None = None  # accumulate, while another one stands in

    @property
    def state_file(self) -> Path:
        return self.save_dir / "state.pt"

    # ------------------------------------------------------------------------------------- start

    def setup_model(self):
        self.model = self._initial()
        return None

    def _initial(self) -> torch.nn.Module:
        variant, base = self.job.variant, self.job.base
        model = self._build(variant)
        count = 0
        if base:
            start = self._build(base)
            count = carry(start, model) if base.weights else share(start, model, variant.origins)
        elif variant.weights:
            taken = load_checkpoint(variant.weights).float().state_dict()
            own = model.state_dict()
            count = sum(k in taken and taken[k].shape == v.shape for k, v in own.items())
        self.carried = (count, len(model.state_dict()))
        return model

    def _build(self, one: Variant) -> torch.nn.Module:
        _seed(self.job.inputs.seed)
        weights = load_checkpoint(one.weights) if one.weights else None
        return self.get_model(cfg=dict(one.config), weights=weights, verbose=False)

    # ------------------------------------------------------------------------------------- order

    @property
    def leg(self) -> int:
        return max(1, math.ceil(self.epochs / LEGS))

    def begin(self) -> None:
        """Start a leg; called before each epoch."""
        self.first = self.epoch % self.leg == 0
        if not self.first:
            return
        loader, reset = self.train_loader, type(self.train_loader).reset

        def anew():  # Ultralytics calls it too, where it turns mosaic off
            _seed(self.job.inputs.seed, self.epoch)
            loader.generator.manual_seed(self.job.inputs.seed * 1_000_003 + self.epoch)
            data = loader.dataset
            if data.cache != "ram":  # mosaic draws from the images seen last
                for i in data.buffer:
                    data.ims[i] = None
                data.buffer.clear()
            reset(loader)

        loader.reset = anew
        anew()
        self.optimizer.zero_grad()

    def preprocess_batch(self, batch):
        """Let the first batch of a leg take a step, so that no gradient is left from before it."""
        if self.first:
            self.first, self.usual = False, self.accumulate
            self.accumulate = 1
        return super().preprocess_batch(batch)

    def restore_accumulate(self) -> None:
        """Undo what :meth:`preprocess_batch` did; called after each batch."""
        if self.usual is not None:
            self.accumulate, self.usual = self.usual, None

    def _close_dataloader_mosaic(self):
        self.closed = True
        super()._close_dataloader_mosaic()

    # ------------------------------------------------------------------------------ continuation

    def resume_training(self, ckpt):
        self.spent, self.peak = 0.0, 0
        if not self.state_file.is_file():
            return
        state = torch.load(self.state_file, map_location=self.device, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        vars(self.stopper).update(state["stopper"])
        self.best_fitness, self.fitness = state["best_fitness"], state["fitness"]
        self.spent, self.peak = state["spent"], state["peak"]
        self.csv.write_text(state["csv"], encoding="utf-8")
        self.start_epoch = state["epoch"] + 1
        if state["criterion"]:
            self.model.criterion = self.model.init_criterion()
            vars(self.model.criterion).update(state["criterion"])
        if state["closed"]:
            self._close_dataloader_mosaic()

    def store(self) -> None:
        """Store the state at the end of a leg; called after each epoch."""
        if self.over:  # called once more, for the final evaluation
            return
        now = time.monotonic()
        self.spent += now - self.since
        self.since = now
        self.peak = max(self.peak, peak_memory(self.device))
        done = self.epoch + 1
        if done % self.leg or done >= self.epochs or self.stop:
            return
        criterion = getattr(self.model, "criterion", None)
        numbers = {} if criterion is None else vars(criterion)  # the loss's schedule, if it has one
        state = {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": {k: v for k, v in vars(self.stopper).items() if k.startswith("best")},
            "best_fitness": self.best_fitness,
            "fitness": self.fitness,
            "criterion": {k: v for k, v in numbers.items() if type(v) in (int, float)},
            "closed": self.closed,
            "spent": self.spent,
            "peak": self.peak,
            "csv": self.csv.read_text(encoding="utf-8"),
        }
        files.write(self.state_file, lambda stream: torch.save(state, stream))

    def final_eval(self):
        """Evaluate the best checkpoint, unless Ultralytics has changed the batch."""
        self.over = True
        batch = self.job.inputs.settings["batch"]
        if self.batch_size != batch:
            msg = f"out of memory at batch={batch}; give all runs a smaller one"
            raise RuntimeError(msg)
        super().final_eval()

    def get_validator(self):
        """Return the stock validator, which also keeps what the trained model finds."""
        validator = super().get_validator()
        validator.__class__ = evaluate.noting(type(validator))
        return validator


def callbacks(trainer: _Run) -> None:
    """Hook a run into Ultralytics' training loop, beside the trackers' own callbacks.

    Args:
        trainer: Before it trains.
    """

    def start(run):
        run.since = time.monotonic()
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_epoch_start", lambda run: run.begin())
    trainer.add_callback("on_train_batch_end", lambda run: run.restore_accumulate())
    trainer.add_callback("on_fit_epoch_end", lambda run: run.store())


def share(base: torch.nn.Module, model: torch.nn.Module, origins: list[int | None] | None) -> int:
    """Copy into a model what it shares with the base; return the number of tensors.

    Args:
        base: The base, initialised or trained.
        model: The variant.
        origins: For each row of the variant, the base's row that it is, with or without a block
            inside; ``None`` for a new row. Without a list, rows are the same by number.
    """
    rows = range(len(model.model)) if origins is None else origins
    count = 0
    for layer, row in zip(model.model, rows, strict=True):
        if row is None or row >= len(base.model):
            continue
        given, own = base.model[row].state_dict(), layer.state_dict()
        same = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
        layer.load_state_dict({**own, **same})
        count += len(same)
    return count


def carry(base: torch.nn.Module, model: torch.nn.Module) -> int:
    """Carry what a trained base has learned into a model; return the number of tensors.

    Args:
        base: The base, from its checkpoint.
        model: The variant. One of another scale starts from scratch.
    """
    try:
        report = transplant.warm_start(model, base)
    except ConfigError as error:
        LOGGER.warning(f"nothing is carried from the base: {error}")
        return 0
    LOGGER.info(str(report))
    return report.carried


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were in use: on a GPU by tensors, on a CPU by the process.

    Args:
        device: Where the run trains.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _seed(seed: int, epoch: int = 0) -> None:
    value = (seed * 1_000_003 + epoch) % 2**32
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
