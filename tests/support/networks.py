"""What tests do with networks."""

from nemesis.models.network import LayerReader


def run_to_layers(network, images, layers, device="cpu", take=None) -> dict:
    """Outputs {name: (B, U, h, w)} of some layers for one batch; see LayerReader."""
    with LayerReader(network, layers, device) as reader:
        return reader.read(images, take)
