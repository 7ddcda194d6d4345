"""Low-rank adapters: a few weights learn beside a frozen backbone, and are merged into it before it is saved.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021. The grounding head is new and learns
in full. What is merged is a plain network again, so that nothing after training knows of adapters.
"""

import copy

from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from training.config import ConfigError, LoraConfig
from training.network.modeling_florence2_grounding import Florence2ForGrounding


def add_adapters(network: Florence2ForGrounding, config: LoraConfig) -> None:
    """Freezes all but the grounding head and puts an adapter beside each linear layer of the backbone named.

    Raises:
        ConfigError: lists the names that no linear layer of the backbone has.
    """
    linear = {name for name, module in network.model.named_modules() if isinstance(module, nn.Linear)}
    last_parts = {name.rpartition(".")[2] for name in linear}
    unknown = sorted(set(config.target_modules) - last_parts)
    if unknown:
        raise ConfigError(
            f"model.lora.target_modules: no linear layer is called {', '.join(unknown)}; there are "
            + ", ".join(sorted(last_parts))
        )
    adapters = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=[f"model.{name}" for name in linear if name.rpartition(".")[2] in config.target_modules],
    )
    inject_adapter_in_model(adapters, network)  # freezes everything else
    network.grounding.requires_grad_(True)


def merge_adapters(network: Florence2ForGrounding) -> Florence2ForGrounding:
    """A copy without adapters that computes the same; a network that has none is copied as it is."""
    merged = copy.deepcopy(network)
    for name, module in list(merged.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            merged.set_submodule(name, module.get_base_layer())
    return merged
