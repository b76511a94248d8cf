"""Designed corruption of images: PGD and FGSM on a unit's objective instead of a class loss.

Subclasses of torchattacks' `Attack`, whose own PGD has a fixed cross-entropy loss (Srivastava et
al., ICCV 2023, section 3.2; Madry et al., ICLR 2018; Goodfellow et al., ICLR 2015).
"""

import torch
from torchattacks.attack import Attack


class UnitPGD(Attack):
    """Projected gradient descent from the clean images, alpha = 2 eps / steps, the last iterate.

    reader: a LayerReader inside its `with` block. layer: the name it was made with. Call it with
    images float32 (B, 3, H, W) in [0, 1], an objective (maps (B, U, h, w) -> costs (B,) or (1,)) and eps (B,)
    in the same range. Each image moves by its own gradient; the cost is summed over the batch.
    `costs` holds the costs before each step of the last call.
    """

    def __init__(self, reader, layer: str, steps: int = 10):
        super().__init__(type(self).__name__, reader.network.module)
        self.device = reader.device
        self.reader, self.layer, self.steps = reader, layer, steps
        self.costs: list = []

    @property
    def step_size(self) -> float:
        """alpha as a share of eps."""
        return 2 / self.steps

    def forward(self, images, labels, eps):
        """Adversarial images (B, 3, H, W), detached; `labels` is the objective."""
        self.costs = []
        clean, objective = images.to(self.device), labels
        radius = eps.to(self.device).view(-1, 1, 1, 1)
        lowest, highest = (clean - radius).clamp_(min=0), (clean + radius).clamp_(max=1)
        moved = clean
        for _ in range(self.steps):
            gradient = self.find_gradient(moved, objective)
            moved = moved.detach() - self.step_size * radius * gradient.sign_()
            moved = torch.minimum(torch.maximum(moved, lowest), highest)
        return moved

    def find_gradient(self, images, objective):
        """Gradient (B, 3, H, W) of the summed cost at `images`; the costs are noted."""
        images = images.detach().requires_grad_()
        costs = objective(self.reader.read(images)[self.layer])  # (B,) or (1,)
        self.costs.append(costs.detach())
        return torch.autograd.grad(costs.sum(), images)[0]


class UnitFGSM(UnitPGD):
    """One step of the whole eps."""

    def __init__(self, reader, layer: str, steps: int = 1):
        super().__init__(reader, layer, steps=1)

    @property
    def step_size(self) -> float:
        return 1.0


METHODS = {"pgd": UnitPGD, "fgsm": UnitFGSM}
