"""The same bits for the same row, whatever it is computed beside."""

import os

MKL_MODE = "AVX2,STRICT"


def fix_products():
    """Let MKL compute every row of a product alike, wherever it lies in memory and however many threads work.

    By default MKL chooses its arithmetic by the addresses of its operands: on some processors two equal rows of one
    product differ in their last bits. To be called before the first product of the process (MKL reads its mode once);
    a mode that the environment has (MKL_CBWR) stays. Torch builds without MKL do not look at it.
    """
    os.environ.setdefault("MKL_CBWR", MKL_MODE)
