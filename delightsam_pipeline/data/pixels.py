"""What pictures of every format share: which way is up, what a palette means, and the palette of label maps."""

from __future__ import annotations

import numpy as np

# By EXIF orientation: rows and columns exchanged, then rows reversed, then columns reversed.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Trubetskoy's distinct colours in an order in which neighbours differ most; index 0, background, is black.
_COLOURS = (
    "e6194b 3cb44b ffe119 4363d8 f58231 911eb4 42d4f4 f032e6 bfef45 fabed4 "
    "469990 dcbeff 9a6324 fffac8 800000 aaffc3 808000 ffd8b1 000075 a9a9a9"
)


def label_palette() -> bytes:
    """Red, green and blue of 256 label values, background black."""
    return b"\0\0\0" + (bytes.fromhex(_COLOURS) * 13)[: 255 * 3]


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W] or [H, W, C] as stored -> as it is shown, by the EXIF orientation (1 to 8; all else means as stored)."""
    exchanged, rows, columns = _TURNS.get(orientation, (False, False, False))
    array = array.swapaxes(0, 1) if exchanged else array
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def colours(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Indices [...] in a palette [N, 3] uint8 -> greys [...] when the palette has nothing else, else colours [..., 3].

    Indices beyond the palette are black.
    """
    shown = _whole(palette, indices)
    return shown[indices, 0] if _grey(palette) else shown[indices]


def numbers(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Indices [...] in a palette [N, 3] uint8 of a label map -> the label numbers that were meant.

    These are the indices, except where a writer has sorted a mask of greys anew: when all colours in use are grey
    and their brightness does not rise with the index, or when a palette of greys has index 0 (in use) brighter
    than black. Then the greys are the numbers.
    """
    used = np.unique(indices)
    shown = _whole(palette, indices)
    if not _grey(shown[used]):
        return indices
    steps = np.diff(shown[used, 0].astype(int))
    falls = (steps < 0).any()
    no_black = used[0] == 0 and shown[0, 0] > 0 and (steps > 0).all() and _grey(palette)
    return shown[indices, 0] if falls or no_black else indices


def _grey(palette: np.ndarray) -> bool:
    return bool((palette == palette[:, :1]).all())


def _whole(palette: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The palette, lengthened with black so that every index has a colour."""
    missing = int(indices.max(initial=0)) + 1 - len(palette)
    return np.pad(palette, ((0, missing), (0, 0))) if missing > 0 else palette
