"""Probing datasets: reading, making, downloading and storing them."""
