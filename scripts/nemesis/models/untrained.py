"""The control with random weights: the same network, untrained."""

import torch

from nemesis.models.network import Network

NORMALISATIONS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)


@torch.no_grad()
def randomise_weights(network: Network, seed: int) -> Network:
    """Replace all weights of `network` by random ones, in place, and return it; the same for the same seed.

    Convolutions and linear layers: normal, variance 2 / fan-in (He et al. 2015), bias 0, so that
    activations keep their size from layer to layer. Normalisation layers: as constructed. Any other
    parameter keeps its values in a random order.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.module.modules():
        if isinstance(module, NORMALISATIONS):
            module.reset_parameters()
        elif isinstance(module, torch.nn.modules.conv._ConvNd | torch.nn.Linear):
            _draw_layer(module, generator)
        else:
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return network


def _draw_layer(module: torch.nn.Module, generator: torch.Generator):
    fan_in = module.weight[0].numel()  # weight (out, in / groups, kh, kw)
    drawn = torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
    module.weight.copy_(drawn)
    if module.bias is not None:
        module.bias.zero_()
