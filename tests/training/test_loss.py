import pytest
import torch

from toolkit.training.loss import attention_loss, masked_mse, mean_norm


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_loss_is_that_of_the_obvious_loops() -> None:
    prediction, wanted = draw(2, 3, 4, 5), draw(5, 4, 3, 2).permute(3, 2, 1, 0)
    mask = (draw(2, 1, 4, 5) > 0).float()
    mask[0, 0, 0, 0] = 0.5
    expected = 0.0
    for picture in range(2):
        total, weight = 0.0, 0.0
        for row in range(4):
            for column in range(5):
                inside = float(mask[picture, 0, row, column])
                for channel in range(3):
                    place = (picture, channel, row, column)
                    total += inside * float(prediction[place] - wanted[place]) ** 2
                    weight += inside
        expected += total / weight / 2
    assert float(masked_mse(prediction, wanted, mask).mean()) == pytest.approx(expected, rel=1e-5)


def test_outside_the_mask_anything_may_be_predicted() -> None:
    wanted, mask = draw(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    prediction = wanted.clone()
    prediction[..., 2:] += 100
    assert masked_mse(prediction, wanted, mask) == 0
    assert masked_mse(prediction, wanted, torch.ones_like(mask)) > 0


def test_a_mask_of_ones_gives_the_plain_mean() -> None:
    prediction, wanted = draw(2, 4, 8, 8), draw(2, 4, 8, 8) + 1
    plain = torch.nn.functional.mse_loss(prediction, wanted)
    assert torch.allclose(masked_mse(prediction, wanted, torch.ones(2, 1, 8, 8)).mean(), plain)


def test_attention_is_held_to_the_mask() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[0, :2] = 1
    inside, outside = mask / 8, (1 - mask) / 8
    corner = torch.zeros(1, 4, 4)
    corner[0, 0, 0] = 0.3
    assert attention_loss(inside, inside, mask) == 0
    assert attention_loss(corner, inside, mask) == 0, "V_rand need not fill the mask"
    assert attention_loss(inside, corner, mask) > 0, "V_class must"
    assert attention_loss(outside, inside, mask) > 0
    assert attention_loss(inside, outside, mask) > attention_loss(inside, corner, mask)


def test_the_norm_is_the_mean_over_tokens_and_layers() -> None:
    assert mean_norm(torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])) == 3
