"""Perturbed images: noise, attacks, how they are stored and how far they are from clean ones; knows no units."""
