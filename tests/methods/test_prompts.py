"""Placeholders are replaced in one pass; what is read as plain letters is remarked."""

import re

import pytest
import torch

from toolkit.concept import Concept
from toolkit.concept.concept import tokens_of
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, Region
from toolkit.methods.prompts import check_tokens_differ, described, joint_prompt, remarks_on
from toolkit.methods.reading import own_prompts

LEFT, RIGHT = (0.05, 0.1, 0.4, 0.9), (0.5, 0.1, 0.9, 0.9)


def concept(name: str, class_word: str, tokens: int = 2, trigger: str = "") -> Concept:
    vectors = torch.zeros(tokens, 16, 32)
    words = tokens_of(name, tokens)
    return Concept(name, vectors, words, {}, {}, class_word=class_word, trigger_words=trigger)


CONCEPTS = {
    "dog": concept("dog", "dog"),
    "dog1": concept("dog1", "wolf"),
    "rex": concept("rex", "hound", tokens=0, trigger="<rex> sks"),
}


def layout(prompt: str = "a picture", **change: object) -> Layout:
    both = (Region("dog", "<dog>", LEFT), Region("dog1", "<dog1>", RIGHT))
    given = {"regions": both, **change}
    return Layout(name="t", prompt=prompt, width=128, height=64, **given)  # type: ignore[arg-type]


def canvas(own: Layout) -> str:
    return own_prompts(own, CONCEPTS)[0].text


def test_a_name_that_is_anothers_token_is_the_name_on_the_canvas() -> None:
    assert canvas(layout("a <dog> and a <dog1>")) == "a dog and a wolf"
    assert canvas(layout("a <dog1> and a <dog>")) == "a wolf and a dog"
    assert canvas(layout("<dog2> and <dog11> <dog12>")) == "dog and wolf"


def test_the_background_keeps_its_tokens_beside_concepts_of_like_names() -> None:
    one = Region("dog1", "<dog1>", RIGHT)
    assert (
        canvas(layout("<dog>, <dog1>", background="dog", regions=(one,))) == "<dog1> <dog2>, wolf"
    )
    other = Region("dog", "<dog>", LEFT)
    said = canvas(layout("<dog>, <dog1>", background="dog1", regions=(other,)))
    assert said == "dog, <dog11> <dog12>"


def test_a_region_says_its_own_tokens_and_the_others_class_words() -> None:
    regions = (
        Region("dog", "<dog> and <dog1>, <dog2>", LEFT),
        Region("dog1", "<dog1> by <dog>", RIGHT),
        Region("rex", "<rex> by <dog2>", RIGHT),
    )
    said = [prompt.text for prompt in own_prompts(layout(regions=regions), CONCEPTS)[1]]
    assert said == [
        "<dog1> <dog2> and <dog1>, <dog2>",
        "<dog11> <dog12> by dog",
        "<rex> sks by dog",
    ]


def test_trigger_words_that_hold_the_placeholder_are_put_in_once() -> None:
    assert CONCEPTS["rex"].expand("a <rex>") == "a <rex> sks"


def test_rivals_replace_in_one_pass_too() -> None:
    both = [CONCEPTS["dog"], CONCEPTS["dog1"]]
    assert described("a <dog> and a <dog1>", both) == "a dog and a wolf"
    own = layout("a dog")
    assert joint_prompt(own, CONCEPTS) == "a <dog1> <dog2>, <dog11> <dog12>"


def test_tokens_of_one_name_are_refused() -> None:
    many = CONCEPTS | {"dog": concept("dog", "dog", tokens=11)}
    with pytest.raises(InputError, match="dog and dog1 both have a token <dog11>"):
        check_tokens_differ(layout(), many)
    check_tokens_differ(layout(), CONCEPTS)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a <dgo>", r"the prompt: <dgo> is read as letters.*nearest: <dog>"),
        ("a <dog3>", "<dog3> is read as letters"),
        ("a <Dog>", "nearest: <dog>"),
        ("(grass:1.3)", r"\(grass:1\.3\) is read as letters: words have no weights"),
        ("((blue sky:-0.5))", r"\(blue sky:-0\.5\)"),
        ("<lora:foo:0.8>", "<lora:foo:0.8> is read as letters.*concept:.*strength:"),
        ("<LyCO:foo>", "LyCO"),
        ("[cat:dog:0.5]", "do not change while"),
        ("a dog BREAK a cat", "BREAK is read as a word.*region"),
        ("a dog AND a cat", "AND is read as a word"),
        ("a dog ADDCOL a cat", "ADDCOL"),
    ],
)
def test_what_other_tools_act_on_is_remarked(prompt: str, said: str) -> None:
    (remark,) = remarks_on(layout(prompt), CONCEPTS)
    assert re.search(said, remark), remark
    region = Region("dog", f"<dog> {prompt}", LEFT)
    (remark,) = remarks_on(layout(regions=(region,)), CONCEPTS)
    assert remark.startswith("region 1: ")


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog and a cat (very good), 1:2, [sic], <3, a < b > c",
        "A DOG AND A CAT",
        "time 12:30",
        "<dog> and <dog11> <dog12>",
        "breakfast and sand",
        "",
    ],
)
def test_plain_text_is_not_remarked(prompt: str) -> None:
    assert remarks_on(layout(prompt), CONCEPTS) == []


def test_another_regions_concept_and_a_negative_prompt_are_remarked() -> None:
    region = Region("dog", "<dog> by <dog11>", LEFT, negative_prompt="<dog>, (bad:1.2)")
    other = Region("dog1", "<dog1>", RIGHT)
    found = remarks_on(layout(regions=(region, other), negative_prompt="<dog1>"), CONCEPTS)
    assert [remark.partition(" is ")[0].partition(" acts ")[0] for remark in found] == [
        "the negative prompt: <dog1>",
        "region 1: <dog11>",
        "region 1, negative prompt: <dog>",
        "region 1, negative prompt: (bad:1.2)",
    ]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("((masterpiece))", "words have no weights"),
        ("(a dog)1.3", "words have no weights"),
        ("fluffy++ dog", "words have no weights"),
        ("(a dog:1,3)", "words have no weights"),
        ("[red:0.5] dog", "prompts do not change"),
        ("{red|blue} dog", "nothing is chosen here"),
        ("[dog|cat]", "nothing is chosen here"),
        ("__breeds__", "nothing is chosen here"),
        ("embedding:easynegative", "toolkit import"),
        (r"rem \(re zero\)", "no backslash"),
        ("<segment:face>", "no concept of this layout"),
        ("&lt;dog&gt;", "write < and >"),
    ],
)
def test_what_users_of_other_programs_write_is_remarked(prompt: str, said: str) -> None:
    layout = Layout("a", prompt, 128, 128, (Region("dog", "<dog>", LEFT),))
    (remark,) = remarks_on(layout, CONCEPTS)
    assert said in remark
