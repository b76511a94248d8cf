"""PGD and FGSM as plain functions: any gradient, one eps or one an image."""

import numpy as np
import pytest
import torch

from nemesis.perturb.pgd import fgsm, find_gradient, pgd, round_rows


def draw_images(count=4):
    """Pixels k / 256, some of them 0 or 1."""
    levels = torch.randint(-30, 290, (count, 3, 6, 5), generator=torch.Generator().manual_seed(1))
    return levels.clamp(0, 256) / 256


def cost(images):
    """Smallest where every pixel is a quarter, (B,)."""
    return (images - 0.25).abs().flatten(1).sum(dim=1)


def slope(images):
    return find_gradient(cost, images)[0]


def test_steps_by_hand():
    images, eps = torch.tensor([0.5, 0.0, 1.0, 0.25]).view(1, 1, 1, 4), 0.25
    found = pgd(images, lambda moved: moved - 0.25, eps, steps=4)  # steps of an eighth
    assert found.flatten().tolist() == [0.25, 0.25, 0.75, 0.25]
    assert fgsm(images, lambda moved: moved - 0.25, 0.125).flatten().tolist() == [0.375, 0.125, 0.875, 0.25]
    assert pgd(images, lambda moved: -moved - 1, eps, 4).flatten().tolist() == [0.75, 0.25, 1.0, 0.5]


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_against_a_loop_over_pixels(steps):
    images, eps = draw_images(), torch.tensor([0, 4, 16, 64]) / 256
    found = pgd(images, slope, eps, steps)
    for clean, moved, size in zip(images, found, eps.tolist(), strict=True):
        for before, after in zip(clean.flatten().tolist(), moved.flatten().tolist(), strict=True):
            value = before
            for _ in range(steps):
                value -= 2 / steps * size * ((value > 0.25) - (value < 0.25))
                value = min(max(value, before - size, 0.0), before + size, 1.0)
            assert after == value


def test_one_eps_is_that_of_every_image():
    images = draw_images()
    assert torch.equal(pgd(images, slope, 0.0625, 4), pgd(images, slope, torch.full((4,), 0.0625), 4))
    assert torch.equal(fgsm(images, slope, 0.0625), pgd(images, slope, 0.0625, steps=1, step_size=1.0))


def test_neither_images_nor_gradient_are_altered():
    images, kept = draw_images(), draw_images()
    gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    copy = gradient.clone()
    images.requires_grad_()
    found = pgd(images, lambda moved: gradient, 0.1, 3)
    assert torch.equal(images.detach(), kept) and torch.equal(gradient, copy)
    assert not found.requires_grad and images.grad is None


def test_the_gradient_of_a_cost_and_the_costs():
    images = draw_images()
    gradient, costs = find_gradient(cost, images)
    assert torch.equal(gradient, (images - 0.25).sign()) and torch.equal(costs, cost(images))
    assert not (gradient.requires_grad or costs.requires_grad or images.requires_grad)


@pytest.mark.parametrize("residue", [True, False])
def test_rows_are_rounded_as_they_are_asked_for(residue):
    clean, asked = np.full((2, 3, 4, 4), 100, np.uint8), []

    def attack():
        for start in (0, 1):
            asked.append(start)
            part = clean[start : start + 1]
            yield slice(start, start + 1), part, (torch.from_numpy(part).float() + 3.3 * (1 - start)) / 255

    differences = round_rows(attack(), 2, residue)
    assert (differences.eps, differences.residue, asked) == (2, residue, [])
    (first, delta, rest), (second, none, _) = differences.parts
    assert (first, second) == (slice(0, 1), slice(1, 2))
    assert delta.dtype == np.int16 and (delta == 2).all() and not none.any()
    assert (rest is None) == (not residue)
    if residue:
        assert rest.dtype == np.float16
        np.testing.assert_allclose(rest, 1.3, atol=1e-3)
