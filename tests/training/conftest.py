from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.config.schema import (
    ConceptConfig,
    LoggerConfig,
    ModelConfig,
    SamplingConfig,
    TrainConfig,
    TrainerConfig,
    TrainingConfig,
)

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures of one concept: a red square in a place that its mask marks."""
    folder = tmp_path / "rex"
    (folder / "masks").mkdir(parents=True)
    for number, left in enumerate((0, 16, 32)):
        pixels = np.full((64, 64, 3), 40 * number, dtype=np.uint8)
        mask = np.zeros((64, 64), dtype=np.uint8)
        pixels[16:48, left : left + 32] = (220, 30, 30)
        mask[16:48, left : left + 32] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "0.txt").write_text("<rex> on the left")
    (folder / "1.caption").write_text("a photo of <rex>")
    return folder


@pytest.fixture
def make_config(tiny_base_folder: Path, images: Path, tmp_path: Path) -> MakeConfig:
    """A config of four short steps; keywords change its training, the rest is as given."""

    def make(
        trainer: dict[str, object] | None = None,
        logger: str = "csv",
        gradient_checkpointing: bool = False,
        output_dir: Path = tmp_path / "outputs",
        **training: object,
    ) -> TrainConfig:
        options = TrainingConfig(
            steps=4,
            batch_size=2,
            learning_rate_text_encoder=1e-3,
            learning_rate_unet=1e-2,
            learning_rate_embeddings=1e-2,
            max_embedding_norm=None,
            checkpoint_every_steps=2,
            sample_every_steps=0,
        )
        return TrainConfig(
            concept=ConceptConfig("rex", images, "dog"),
            model=ModelConfig(
                "tiny",
                str(tiny_base_folder),
                width=64,
                height=64,
                gradient_checkpointing=gradient_checkpointing,
            ),
            training=replace(options, **training),  # type: ignore[arg-type]
            sampling=SamplingConfig(steps=2),
            trainer=TrainerConfig({"accelerator": "cpu", "devices": 1, **(trainer or {})}),
            logger=LoggerConfig(kind=logger),  # type: ignore[arg-type]
            output_dir=output_dir,
        )

    return make
