"""What learns: the network, the optimiser that changes it, and the moving average that becomes the checkpoint.

Knows nothing of pictures, of files and of how long a run takes.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.config import TrainConfig
from training.learning.batches import Batch, DecoderBatch
from training.learning.objective import Terms, batch_terms, decoder_terms
from training.learning.optimizer import Optimizer
from training.learning.processes import Processes
from training.learning.schedule import Schedule
from training.network.modeling_florence2_grounding import Florence2ForGrounding


def compile_layers(network: Florence2ForGrounding) -> None:
    """torch.compile of each layer by itself, in place, so that the weights keep their names.

    Layers of a kind share what was compiled where their shapes agree; a whole tower at a time takes very long. Prompts
    and answers have another length at every step, so the language model is compiled for any.
    """
    tower, language_model = network.model.vision_tower, network.model.language_model
    for layer in (*tower.convs, *(block for blocks in tower.blocks for block in blocks)):
        layer.compile(dynamic=False)
    for layer in (*language_model.encoder.layers, *language_model.decoder.layers):
        layer.compile(dynamic=True)


class Learner:
    """Takes steps; every process of a run has one, with the same weights.

    `class_weights` (C,) are by index of the dataset's categories; none: all count alike.
    """

    def __init__(
        self,
        network: Florence2ForGrounding,
        tokenizer: Tokenizer,
        config: TrainConfig,
        schedule: Schedule,
        processes: Processes,
        class_weights: Tensor | None,
    ) -> None:
        self.network = network.to(processes.device)
        self.tokenizer = tokenizer
        self.config = config
        self.schedule = schedule
        self.processes = processes
        self.class_weights = class_weights
        self.average = copy.deepcopy(network).eval()
        self.network.train()
        if config.precision == "bf16" and processes.device.type == "cpu":
            self.network.set_attn_implementation("eager")  # 1.5 times as fast there as scaled_dot_product_attention
        if config.gradient_checkpointing:
            self.network.model.language_model.activation_checkpointing_enable()  # transformers' DaViT has none
        if config.compile:
            compile_layers(self.network)
        self.optimizer = Optimizer(self.network, config, 0, schedule.joint_steps)

    def take_step(self, step: int, batches: Sequence[Batch | DecoderBatch]) -> tuple[list[Terms], float]:
        """The losses of the step's batches in this process, and the norm of the gradient before clipping."""
        torch.manual_seed((self.config.seed << 32) + (self.processes.index << 24) + step)  # of dropout
        history = []
        for batch in batches:
            terms = self.terms(batch)
            (terms.total() / len(batches)).backward()
            history.append(terms)
        self.processes.average_gradients(self.optimizer.parameters)
        norm = self.optimizer.step(step)
        self._update_average(step)
        return history, norm

    def terms(self, batch: Batch | DecoderBatch) -> Terms:
        """The losses of a batch."""
        batch = batch.to(self.processes.device)
        sigma = self.config.location_sigma
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            if isinstance(batch, DecoderBatch):
                return decoder_terms(self.network, batch.image, batch.generative, self.tokenizer, sigma)
            return batch_terms(
                self.network,
                batch.image,
                batch.found,
                batch.prompts,
                batch.sparse,
                batch.generative,
                self.tokenizer,
                sigma,
                self.class_weights,
            )

    def freeze_all_but_decoder(self) -> None:
        """From here on only the decoder learns, on top of the averaged weights, with a schedule of its own."""
        self.network.load_state_dict(self.average.state_dict())
        self.network.requires_grad_(False)
        decoder = self.network.model.language_model.decoder
        shared = {id(parameter) for parameter in (self.network.get_input_embeddings().weight,)}
        for parameter in decoder.parameters():
            parameter.requires_grad_(id(parameter) not in shared)
        if self.network.box_slots is not None:
            self.network.box_slots.requires_grad_(True)
        self.optimizer = Optimizer(self.network, self.config, self.schedule.joint_steps, self.schedule.steps)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if never stopped."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Takes up the state that a learner had after `step` steps."""
        if step > self.schedule.joint_steps:
            self.freeze_all_but_decoder()
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        averages, weights = list(self.average.parameters()), list(self.network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
