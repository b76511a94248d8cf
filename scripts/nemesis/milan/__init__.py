"""MILAN (Hernandez et al., 2022): describes a unit in words from the images that fire it most."""
