"""Layouts that several tests make pictures of."""

from toolkit.layout.layout import Layout, Region

PAIR = Layout(
    name="pair",
    prompt="a dog and a cat",
    width=256,
    height=192,
    regions=(
        Region("dog", "<dog>, sitting", (0.05, 0.1, 0.45, 0.9)),
        Region("cat", "<cat>, sitting", (0.55, 0.2, 0.95, 0.9)),
    ),
)
