"""What does an environment without pictures look like? The numbers of its observation as bars."""

import numpy as np

SIDE = 64


def bars(numbers: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A picture uint8 [side, side, 3] of numbers float [D]: a column each, up for positive ones, tanh of their size."""
    picture = np.full((side, side, 3), 255, np.uint8)
    middle, edges = side // 2, np.linspace(0, side, len(numbers) + 1).astype(int)
    heights = np.rint(np.tanh(np.nan_to_num(np.asarray(numbers, np.float64))) * (middle - 1)).astype(int)
    for left, right, height in zip(edges, edges[1:], heights):
        colour = (40, 90, 200) if height >= 0 else (200, 70, 40)
        picture[middle - max(height, 0) : middle - min(height, 0) + 1, left : max(right - 1, left + 1)] = colour
    return picture
