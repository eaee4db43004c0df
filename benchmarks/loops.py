"""A training loop in a separate process, stepped from outside: `python loops.py TASK WHO ROWS.npz`.

Prints `@ ready` once it is built, then takes one step per line on stdin and prints `@ seconds loss`. Memory, threads
and settings of one loop therefore don't affect another.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from sizewise.lm import adapt, architecture, loop
from sizewise.lm.hf_format import load_network
from sizewise.lm.kernels import can_compile
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.packing import Rows

RANK = 16
BETAS = (0.9, 0.95)
RATES = {"lora": 1e-3, "full": 5e-5, "scratch": 1e-3}
Step = Callable[[int], float]


def serve_steps(step: Step) -> None:
    """Print ready, then take one step per line on stdin."""
    print("@ ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        loss = step(int(line))
        print("@", time.perf_counter() - begun, loss, flush=True)


def rows_at(batches: Any, number: int) -> Rows:
    """Build the rows of a step, (rows, tokens), one sequence per row."""
    ids = batches[number]
    targets = np.concatenate([ids[:, 1:], np.full((len(ids), 1), -100)], axis=1)
    return Rows(ids, targets, np.ones_like(ids), np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy())


def pretrained(folder: Path, way: str) -> Any:
    """Load the checkpoint like a careful user: fp32 weights, SDPA, and adapters from peft."""
    from peft import LoraConfig, get_peft_model

    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    network.config.use_cache = False
    if way == "lora":
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        torch.manual_seed(0)
        network = get_peft_model(network, config)
    network.train()
    return network


def small(parameters: int, attention: str, context: int) -> Any:
    """Build an untrained network."""
    ids = {"bos": 0, "eos": 0, "pad": 0}
    return architecture.build_network(architecture.shape_for(parameters), attention, context, ids, seed=0)


def windowed(folder: Path, window: int, context: int) -> Any:
    """Load the checkpoint with sliding-window attention in each block."""
    return architecture.with_attention(load_network(folder, "bf16"), f"window:{window}", context)


def ours(network: Any, way: str, batches: Any) -> Step:
    """Build the loop of sizewise."""
    if way == "lora":
        network = adapt.add_lora(network, RANK, seed=0)
    loop.prepare(network, compiled=can_compile())
    optimiser = MasterAdamW(network.named_parameters(), 0.0)

    def step(number: int) -> float:
        loss = loop.loss_of(network, rows_at(batches, number))
        loss.backward()
        optimiser.step(RATES[way])
        return float(loss.detach())

    return step


def plain(network: Any, way: str, batches: Any, compiled: bool = False) -> Step:
    """Build a plain loop: bf16 autocast over fp32 weights, SDPA, AdamW, optionally compiled."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATES[way], betas=BETAS, weight_decay=0.0, fused=compiled)
    network.train()
    call = torch.compile(network, dynamic=False) if compiled else network

    def step(number: int) -> float:
        ids = torch.from_numpy(batches[number])
        with torch.autocast("cpu", torch.bfloat16):
            loss = call(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def trainer(network: Any, way: str, batches: Any) -> None:
    """Run the Hugging Face Trainer, which waits for stdin between steps."""
    rows = [{"input_ids": torch.from_numpy(row), "labels": torch.from_numpy(row)} for batch in batches for row in batch]

    class Waiting(TrainerCallback):  # type: ignore[misc]
        begun = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            if not self.begun:
                print("@ ready", flush=True)
            sys.stdin.readline()
            self.begun = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "loss" in logs:
                print("@", time.perf_counter() - self.begun, float(logs["loss"]), flush=True)

    class Ordered(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

        def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            self.callback_handler.on_log(self.args, self.state, self.control, logs)

    settings = TrainingArguments(
        output_dir="unused",
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=len(batches[0]),
        max_steps=len(batches),
        learning_rate=RATES[way],
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=0.0,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    Ordered(model=network, args=settings, train_dataset=rows, callbacks=[Waiting()]).train()


def main() -> None:
    """Build the loop named by the arguments, and step it."""
    warnings.simplefilter("ignore")
    task, who, file, folder = sys.argv[1:5]
    batches = np.load(file)["batches"]
    way, _, size = task.partition("-")
    context = batches.shape[-1]
    if way == "scratch":
        network = small(int(size), "full" if who != "window" else "window:512", context)
        if who == "plain":
            serve_steps(plain(network, way, batches, compiled=can_compile()))
        serve_steps(ours(network.bfloat16(), way, batches))
    elif who == "trainer":
        trainer(pretrained(Path(folder), way), way, batches)
    elif who in ("plain", "plain, memory kept"):
        serve_steps(plain(pretrained(Path(folder), way), way, batches))
    else:
        network = windowed(Path(folder), 512, context) if who == "window" else load_network(Path(folder), "bf16")
        serve_steps(ours(network, way, batches))


if __name__ == "__main__":
    main()
