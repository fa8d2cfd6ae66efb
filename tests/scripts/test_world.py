"""What the base may see and what it may not, and that its captions tell the truth."""

from itertools import pairwise

import numpy as np
import pytest
from base import captions, scenes
from base.art import load_world
from base.words import WINDOW, grow_tokenizer, learn_tokenizer


def test_training_never_names_held_out_art() -> None:
    world = load_world()
    assert not set(world.trained_pairs()) & set(world.held_out_pairs())


def test_every_concept_is_held_out_and_its_class_word_known_in_other_styles() -> None:
    world = load_world()
    trained = world.trained_pairs()
    for class_word, emoji in world.concepts.values():
        assert emoji in world.held_out_emoji
        assert (class_word, "cartoon") in trained and (class_word, "flat") in trained
        assert (class_word, "3d") not in trained


def test_no_3d_art_in_training_is_held_out_art() -> None:
    world = load_world()
    drawn = {**world.names, **world.places}
    seen = {drawn[name] for name, style in world.trained_pairs() if style == "3d"}
    assert not seen & world.held_out_emoji


def test_thirty_names_and_more_are_held_out_in_one_style_and_known_in_the_others() -> None:
    world = load_world()
    trained = set(world.trained_pairs())
    assert len(world.held_out_pairs()) >= 30
    for name, style in world.held_out_pairs():
        assert style == "3d" and {(name, "cartoon"), (name, "flat")} <= trained


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 128), (128, 256), (384, 256)])
def test_boxes_lie_inside_the_canvas(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    kind = scenes.SceneKind(*size, smallest=44, largest=112)
    for count in (1, 2, 3, 4):
        for _ in range(50):
            for left, top, right, bottom in scenes.place_boxes(rng, kind, count):
                assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_objects_of_a_large_canvas_stand_in_two_rows_apart() -> None:
    rng = np.random.default_rng(0)
    kind = scenes.SceneKind(384, 256, smallest=76, largest=112)
    for _ in range(50):
        boxes = scenes.place_boxes(rng, kind, 5)
        assert all(bottom <= 128 for _, _, _, bottom in boxes[:2])
        assert all(top >= 128 for _, top, _, _ in boxes[2:])
        for row in (boxes[:2], boxes[2:]):
            assert all(left[2] <= right[0] for left, right in pairwise(row))


def test_a_caption_of_two_names_the_left_one_on_the_left() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        caption = captions.two_caption(rng, "a cat", "a dog", True, "on the grass")
        if "on the left" in caption:
            assert "a cat on the left" in caption and "a dog on the right" in caption


def test_the_vocabulary_writes_any_text_within_its_window() -> None:
    tokenizer = learn_tokenizer(["a cartoon dog on the grass", "a 3d cat"] * 4)
    words = "a zebra, naïve 7 ~ dog"
    ids = tokenizer(words, padding="max_length", max_length=WINDOW, truncation=True).input_ids
    assert len(ids) == WINDOW and ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id == tokenizer.pad_token_id
    assert tokenizer.unk_token_id not in ids[1 : ids.index(tokenizer.eos_token_id)]


def test_a_grown_vocabulary_has_a_token_for_each_new_word_and_reads_others_as_before() -> None:
    said = ["a cartoon dog on the grass", "a 3d bear at night", "zq"]
    small = learn_tokenizer(said[:2] * 4)
    grown = grow_tokenizer(small, ["dog", "ear", "astronaut"])
    assert [small(text).input_ids for text in said] == [grown(text).input_ids for text in said]
    assert all(len(grown.tokenize(word)) == 1 for word in ("ear", "astronaut"))
    new = [grown.convert_tokens_to_ids(grown.tokenize(word)[0]) for word in ("ear", "astronaut")]
    assert min(new) >= len(small)
    assert grow_tokenizer(grown, ["ear", "astronaut"]).get_vocab() == grown.get_vocab()
