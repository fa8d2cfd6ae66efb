"""Lightning's precisions in both stages, on a CPU."""

from pathlib import Path

import pytest
from PIL import Image

from toolkit.cli import main

SCENE = """{name: a, prompt: a dog, width: 128, height: 128, regions: [
  {concept: rex, prompt: <rex>, box: [0, 0, 1, 1]}]}"""


@pytest.mark.parametrize(
    "precision", ["bf16-true", "16-true", "64-true", "bf16-mixed", "16-mixed", "16"]
)
def test_training_and_composing_work(
    precision: str, tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures/0.png")
    (tmp_path / "a.yaml").write_text(SCENE)
    same = (f"model.path={tiny_base_folder}", f"trainer.precision={precision}", "trainer=cpu")
    trained = main(
        [
            *("train", "concept=rex", "concept.images=pictures", "concept.class_word=dog", *same),
            *("training.steps=2", "training.batch_size=1", "training.sample_every_steps=2"),
            *("model.width=64", "model.height=64", "sampling.steps=1"),
        ]
    )
    assert trained == 0
    assert main(["compose", "layout=a.yaml", "sampling.steps=2", *same]) == 0
    picture = Image.open(tmp_path / "outputs/compose/lora_composer/a/0.png")
    assert picture.convert("L").getextrema()[0] < picture.convert("L").getextrema()[1]
