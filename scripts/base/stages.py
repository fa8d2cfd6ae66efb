"""The curriculum: which pictures each stage of the training draws, and what it leans to."""

from __future__ import annotations

from .scenes import SceneKind

# The curriculum: what each stage draws, and with which weight.
STAGES: dict[str, list[tuple[float, SceneKind]]] = {
    "single": [(1.0, SceneKind(64, 64, 1, 1, 44, 62, 0.4))],
    "scene": [
        (0.4, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.45, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.15, SceneKind(128, 128, 1, 2, 44, 100, 0.7)),
    ],
    "wide": [
        (0.2, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.4, SceneKind(128, 128, 1, 1, 56, 112, 0.7)),
        (0.1, SceneKind(128, 128, 1, 2, 44, 80, 0.7)),
        (0.25, SceneKind(256, 128, 2, 3, 76, 110, 0.7)),
        (0.05, SceneKind(128, 256, 2, 3, 76, 110, 0.7)),
    ],
    "pairs": [
        # small canvases cost a quarter: that is where two names learn to keep apart
        (0.10, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.10, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.60, SceneKind(128, 64, 2, 2, 44, 62, 0.5)),
        (0.03, SceneKind(64, 128, 2, 2, 44, 62, 0.5)),
        (0.15, SceneKind(256, 128, 2, 2, 76, 112, 0.7)),
        (0.02, SceneKind(384, 128, 3, 3, 76, 112, 0.7)),
    ],
    "several": [
        # never one alone on a large canvas: it may stand anywhere, and is then lost from its box
        (0.08, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.17, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.22, SceneKind(128, 64, 2, 2, 44, 62, 0.5)),
        (0.36, SceneKind(256, 128, 2, 2, 76, 112, 0.7)),
        (0.06, SceneKind(384, 128, 3, 3, 76, 112, 0.7)),
        (0.03, SceneKind(128, 256, 2, 2, 76, 112, 0.7)),
        (0.05, SceneKind(256, 256, 3, 4, 76, 112, 0.7)),
        (0.03, SceneKind(384, 256, 4, 6, 76, 112, 0.7)),
    ],
    "finish": [
        # layouts of three to five live on the larger canvases; faces on 128 x 128
        (0.03, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.24, SceneKind(128, 128, 1, 1, 56, 116, 0.7)),
        (0.05, SceneKind(128, 64, 2, 2, 44, 62, 0.5)),
        (0.26, SceneKind(256, 128, 2, 2, 76, 116, 0.7)),
        (0.14, SceneKind(384, 128, 3, 3, 76, 116, 0.7)),
        (0.03, SceneKind(128, 256, 2, 2, 76, 116, 0.7)),
        (0.15, SceneKind(256, 256, 3, 4, 76, 116, 0.7)),
        (0.10, SceneKind(384, 256, 4, 6, 76, 116, 0.7)),
    ],
}

# Half of a stage's timesteps lean to where it has most to learn: the logit of their mean share of
# the schedule. A picture's content is decided in the middle, who stands where before that.
CONTENT, LAYOUT = 0.4, 1.2
LEANING = {
    "single": CONTENT,
    "scene": CONTENT,
    "wide": CONTENT,
    "pairs": LAYOUT,
    "several": LAYOUT,
    "finish": (CONTENT + LAYOUT) / 2,
}
