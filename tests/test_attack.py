"""PGD and FGSM against a plain loop; what an attack may and may not touch."""

import pytest
import torch
from designed_layer import LAYER, tiny_network, tiny_reader
from torchattacks.attack import Attack

from nemesis.corruption.attack import METHODS, UnitFGSM, UnitPGD
from nemesis.corruption.objective import MeanActivation, PublishedCost

COUNT, SIZE, CELLS = 5, 20, 6


def draw_images(count=COUNT):
    """Pixels k / 256, some of them 0 or 1."""
    levels = torch.randint(-30, 290, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    return levels.clamp(0, 256) / 256


def draw_objective(rows=range(COUNT)):
    """Unit 2 down in a corner of each image and up in another; weights that floats hold exactly."""
    weights = torch.zeros(COUNT, CELLS, CELLS)
    for row in range(COUNT):
        weights[row, : row + 1, :4], weights[row, 4:, 2:] = 1 / 16, -1 / 8
    unit = torch.tensor([2, 0, 2, 4, 2])
    return MeanActivation(torch.arange(len(rows)), unit[list(rows)], weights[list(rows)])


def slow_attack(network, clean, cost, eps, alpha, steps):
    """One image (3, H, W): step by the gradient's sign, then into the ball, then into [0, 1]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    moved = clean
    for _ in range(steps):
        pixels = moved.clone().requires_grad_()
        cost(network.module[:3]((pixels[None] - mean) / std)[0]).backward()
        delta = moved - alpha * eps * pixels.grad.sign() - clean
        moved = (clean + delta.clamp(-eps, eps)).clamp(0, 1)
    return moved


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("method", "steps", "alpha"), [("pgd", 4, 1 / 2), ("pgd", 10, 1 / 5), ("fgsm", 1, 1)])
def test_the_attack_is_that_of_a_plain_loop(exact, method, steps, alpha):
    images, objective, eps = draw_images(), draw_objective(), torch.tensor([2.0, 8, 0.5, 32, 4]) / 256
    with tiny_reader(exact) as reader:
        attack = METHODS[method](reader, LAYER, steps)
        found = attack(images, objective, eps)
    network, expected = tiny_network(exact), []
    for image, unit, weights, size in zip(images, objective.unit, objective.weights, eps, strict=True):
        cost = lambda maps, unit=unit, weights=weights: (maps[unit] * weights).sum()  # noqa: E731
        expected.append(slow_attack(network, image, cost, size, alpha, steps))
    assert attack.step_size == alpha
    far = (found - torch.stack(expected)).abs() > 1e-6
    assert far.float().mean() <= (0 if exact and steps != 10 else 1e-3)  # a sign may turn where a gradient is near 0
    assert ((found - images).abs() > 0).float().mean() > 0.3


def test_fgsm_is_one_step_of_eps():
    images, objective, eps = draw_images(), draw_objective(), torch.full((COUNT,), 4 / 256)
    with tiny_reader(exact=True) as reader:
        attack = UnitFGSM(reader, LAYER, steps=10)
        gradient = attack.find_gradient(images, objective)
        found = attack(images, objective, eps)
    assert len(attack.costs) == 1
    torch.testing.assert_close(found, (images - 4 / 256 * gradient.sign()).clamp(0, 1), atol=0, rtol=0)
    assert 0 < (found == images).float().mean() < 0.9  # what no cell of the region sees stays


@pytest.mark.parametrize("method", METHODS)
def test_no_eps_no_change(method):
    images = draw_images()
    with tiny_reader() as reader:
        attack = METHODS[method](reader, LAYER)
        assert torch.equal(attack(images, draw_objective(), torch.zeros(COUNT)), images)
        mixed = attack(images, draw_objective(), torch.tensor([0, 0.1, 0, 0.1, 0]))
    changed = (mixed != images).flatten(1).any(dim=1)
    assert changed.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("soft", [True, False])
def test_inside_the_ball_and_at_a_lower_cost(method, soft):
    images, eps = draw_images(), torch.tensor([0.5, 2, 6, 60, 300]) / 255
    regions = torch.zeros(2, COUNT, 15, 15)
    regions[0, :, :6], regions[1, :, 9:] = 1, 1
    with tiny_reader() as reader:
        attack = METHODS[method](reader, LAYER, 5)
        objective = PublishedCost(1, *regions, 0.1) if soft else draw_objective()
        found = attack(images, objective, eps)
        after, before = (objective(reader.read(batch)[LAYER]) for batch in (found, images))
    assert 0 <= found.min() < found.max() <= 1
    assert ((found - images).abs().amax(dim=(1, 2, 3)) <= eps + 1e-6).all()
    assert len(attack.costs) == attack.steps == (5 if method == "pgd" else 1)
    torch.testing.assert_close(attack.costs[0], before)
    if soft:
        assert after.sum() < before.sum()
    else:
        assert (after[:4] < before[:4]).all()
    if method == "pgd" and not soft:
        assert (after < before).all()
        assert (attack.costs[-1] < attack.costs[0]).all()


@pytest.mark.parametrize("pad_to", [0, 8])
def test_an_image_moves_by_its_own_gradient(pad_to):
    images, eps = draw_images(), torch.tensor([2.0, 8, 16, 4, 2]) / 256
    with tiny_reader(exact=True, pad_to=pad_to) as reader:
        attack = UnitPGD(reader, LAYER, steps=4)
        whole = attack(images, draw_objective(), eps)
        for rows in ([0], [3], [1, 4], [4, 2, 0]):
            part = attack(images[rows], draw_objective(rows), eps[rows])
            assert torch.equal(part, whole[rows])


def test_entries_of_one_image_add_up():
    """A shared attack: the gradient of several units' summed cost."""
    images, once = draw_images(1), draw_objective([0])
    weights = torch.cat([once.weights, once.weights.flip(1)])
    both = MeanActivation(torch.tensor([0, 0]), torch.tensor([2, 1]), weights)
    with tiny_reader(exact=True) as reader:
        attack = UnitPGD(reader, LAYER)
        parts = [MeanActivation(both.row[i, None], both.unit[i, None], both.weights[i, None]) for i in (0, 1)]
        gradients = [attack.find_gradient(images, objective) for objective in (both, *parts)]
    assert torch.equal(gradients[0], gradients[1] + gradients[2])


def test_nothing_else_is_touched():
    images, objective = draw_images(), draw_objective()
    kept = images.clone()
    with tiny_reader() as reader:
        module = reader.network.module
        weights = [values.clone() for values in module.parameters()]
        attack = UnitPGD(reader, LAYER)
        first = attack(images, objective, torch.full((COUNT,), 0.02))
        again = attack(images, objective, torch.full((COUNT,), 0.02))
    assert torch.equal(first, again)
    assert len(attack.costs) == 10
    assert not any(cost.requires_grad for cost in attack.costs)
    assert torch.equal(images, kept)
    assert images.grad is None
    assert not (images.requires_grad or first.requires_grad or module.training)
    for values, before in zip(module.parameters(), weights, strict=True):
        assert values.grad is None
        assert not values.requires_grad
        assert torch.equal(values, before)


def test_they_are_attacks_of_torchattacks():
    with tiny_reader() as reader:
        for name, method in METHODS.items():
            attack = method(reader, LAYER)
            assert isinstance(attack, Attack)
            assert (attack.attack, attack.model) == (method.__name__, reader.network.module)
            assert attack.steps == (10 if name == "pgd" else 1)
            assert attack.device == torch.device("cpu")
