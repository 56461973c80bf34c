"""nnU-Net's own trainer with a length by the clock; found by nnU-Net through the variable nnUNet_extTrainer.

Runs in nnU-Net's environment, not in ours. BUDGET_S, SEED and THREADS are read from the environment. An epoch is a
minute of the budget (5 to 100 epochs); the first has two iterations and measures them, and after every epoch the
number of iterations is fitted to the time left. So nnU-Net's decay of the learning rate ends with the budget, however
fast the machine is. Nothing else is changed, but that weights are saved at the end only, that no curves are drawn (a
second or more an epoch), and that one batch an epoch, not fifty, is spent on the pseudo Dice. All save time to train.
"""

import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

FEWEST, MOST, EPOCH_S = 5, 100, 60


class TimedTrainer(nnUNetTrainer):
    """Trains for BUDGET_S seconds, and writes timing.json beside its weights."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008  as there
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.budget, seed = float(os.environ["BUDGET_S"]), int(os.environ["SEED"])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(int(os.environ["THREADS"]))
        self.num_epochs = int(np.clip(self.budget / EPOCH_S, FEWEST, MOST))
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
        self.logger.plot_progress_png = lambda folder: None
        self.timing = {"epochs": self.num_epochs, "iterations": 0, "epoch_s": []}

    def on_train_start(self):
        super().on_train_start()
        self.began = time.monotonic()

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.epoch_began = time.monotonic()

    def on_train_epoch_end(self, train_outputs):
        self.iteration_s = (time.monotonic() - self.epoch_began) / len(train_outputs)
        self.timing["iterations"] += len(train_outputs)
        super().on_train_epoch_end(train_outputs)

    def on_epoch_end(self):
        super().on_epoch_end()
        now = time.monotonic()
        epoch_s, left = now - self.epoch_began, self.num_epochs - self.current_epoch
        self.timing["epoch_s"].append(round(epoch_s, 2))
        if left:
            beside = epoch_s - self.iteration_s * self.num_iterations_per_epoch
            share = (self.budget - (now - self.began)) / left - beside
            self.num_iterations_per_epoch = max(1, round(share / self.iteration_s))

    def on_train_end(self):
        self.timing["training_s"] = round(time.monotonic() - self.began, 1)
        super().on_train_end()
        self.write_timing()

    def perform_actual_validation(self, save_probabilities=False):
        file, began = Path(self.output_folder) / "timing.json", time.monotonic()
        super().perform_actual_validation(save_probabilities)
        if file.is_file():  # a validation that was cut off and is made again by itself
            self.timing = json.loads(file.read_text(encoding="utf-8"))
        self.timing["validation_s"] = round(time.monotonic() - began, 1)
        self.write_timing()

    def save_checkpoint(self, filename):
        if filename.endswith("checkpoint_final.pth"):
            super().save_checkpoint(filename)

    def write_timing(self):
        text = json.dumps(self.timing, indent=1)
        (Path(self.output_folder) / "timing.json").write_text(text + "\n", encoding="utf-8")
