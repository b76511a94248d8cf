"""nemesis: how far can explanations of the units of a vision network be trusted?"""

__version__ = "0.1.0"
