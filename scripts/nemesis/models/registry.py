"""The kinds of networks that a config can name; a new kind is one entry in KINDS. Also the same networks untrained."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from nemesis.errors import InputError
from nemesis.models import embedded, published, user
from nemesis.models.layouts import read_layouts
from nemesis.models.network import Network
from nemesis.models.weights import insert_weights, read_weights, unwrap_names

State = dict  # tensor by name
NORMALISATIONS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)


@dataclasses.dataclass(frozen=True)
class Kind:
    """How networks of one kind come about.

    make: (name, spec, state) -> Network without trained weights; `state` are the weights that will go
        in, {} if unknown, so that the number of classes can be read from them.
    find_source: (name, spec) -> file of the weights, or None where `make` already gives a trained network.
    rename: (module, state) -> state under the module's names, for files that use other names.
    """

    make: Callable[[str, Mapping, State], Network]
    find_source: Callable[[str, Mapping], Path | None]
    rename: Callable[[object, State], State] = lambda module, state: state


KINDS: dict[str, Kind] = {
    "efficientnet_lite0": Kind(embedded.make_efficientnet, embedded.find_efficientnet, embedded.rename_published),
    "tinyvgg": Kind(embedded.make_tinyvgg, embedded.refuse_tinyvgg),
    "torchvision": Kind(published.make_torchvision, published.find_source, published.rename_old_names),
    "vgg16_places365": Kind(published.make_vgg16_places365, published.find_source, published.rename_research_names),
    "resnet50_imagenet": Kind(published.make_resnet50, published.find_source),
    "file": Kind(user.make_network, user.find_source),
}


def build_network(name: str, spec: Mapping, weights: Path | None = None) -> Network:
    """The network that `spec` (a config's entry under models:) describes, with its weights, on the CPU.

    weights: a weights.safetensors of `save_model`; without it the weights come from where the kind has
        them: a Python package, the file spec["weights"], the user's loader.
    spec["weights"] = "random": the same network untrained, drawn with spec["seed"] (0).
    Raises InputError in one line that names the model or the file, and what is wrong.
    """
    kind = find_kind(name, spec)
    if weights is None and spec.get("weights") == "random":
        return _make_random(kind, name, spec)
    path = kind.find_source(name, spec) if weights is None else Path(weights)
    if path is None:
        return kind.make(name, spec, {})
    file = read_weights(path)
    network = kind.make(name, spec, unwrap_names(file.state, None, path))
    state = unwrap_names(file.state, network.module.state_dict(), path)
    insert_weights(network.module, kind.rename(network.module, state), path)
    layouts = {} if weights is None else read_layouts(path)
    # A new Network, since loading may have rebuilt parts of the module.
    return dataclasses.replace(network, assumed=(*network.assumed, *file.notes), layouts=layouts)


def find_kind(name: str, spec: Mapping) -> Kind:
    """The Kind of a spec; InputError lists the kinds when it is unknown."""
    kind = str(spec.get("kind", ""))
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"model {name}: unknown kind '{kind[:80]}'{hint}; kinds: {', '.join(sorted(KINDS))}")
    return KINDS[kind]


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


def _make_random(kind: Kind, name: str, spec: Mapping) -> Network:
    """What randomise_weights does not draw (tokens, tables of positions) comes from the seed, too."""
    seed = int(spec.get("seed", 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind.make(name, spec, {})
    return randomise_weights(network, seed)


def _draw_layer(module: torch.nn.Module, generator: torch.Generator):
    fan_in = module.weight[0].numel()  # weight (out, in / groups, kh, kw)
    drawn = torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
    module.weight.copy_(drawn)
    if module.bias is not None:
        module.bias.zero_()
