"""Matrix of BT.601 luma and chroma in studio range, as in MATLAB's rgb2ycbcr; without torch."""

# Rows Y, Cb, Cr; columns R, G, B; in 8-bit levels for RGB in [0, 1].
RGB_TO_YCBCR = (
    (65.481, 128.553, 24.966),
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)
OFFSET = (16.0, 128.0, 128.0)
