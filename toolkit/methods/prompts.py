"""What a layout's prompts say once the concepts' placeholders are written out, and what is odd."""

import re
from collections.abc import Mapping, Sequence

from toolkit.concept import Concept
from toolkit.concept.concept import written_out
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, Region
from toolkit.text.suggest import nearest


def canvas_prompt(layout: Layout, concepts: Mapping[str, Concept]) -> str:
    """The whole picture's prompt: class words for the concepts that have a region.

    The background's placeholder becomes its tokens. All are replaced in one pass; where a name is
    also another concept's token (`dog1` beside `dog`), the name holds.
    """
    said: dict[str, str] = {}
    regional = [concepts[r.concept] for r in layout.regions if r.concept != layout.background]
    for concept in regional:
        said |= concept.described_tokens
    if layout.background:
        said |= {token: token for token in concepts[layout.background].token_names}
    for concept in regional:
        said[concept.placeholder] = concept.class_word
    if layout.background:
        behind = concepts[layout.background]
        said[behind.placeholder] = behind.call
    prompt = written_out(layout.prompt, said)
    return " ".join(prompt.split()) if regional else prompt


def region_prompt(region: Region, layout: Layout, concepts: Mapping[str, Concept]) -> str:
    """A region's prompt: its own concept's tokens, and class words for the layout's others."""
    own = concepts[region.concept]
    said = others_described(layout, concepts, own)
    said |= {token: token for token in own.token_names}
    return written_out(region.prompt, said | {own.placeholder: own.call})


def joint_prompt(layout: Layout, concepts: Mapping[str, Concept]) -> str:
    """The whole picture's prompt with every region's tokens in it.

    They take the place of the class word where the prompt has it, one for each region; a region
    whose class word the prompt lacks has its own prompt put behind.
    """
    prompt = layout.prompt
    said: dict[str, str] = {}
    behind = []
    for number, region in enumerate(layout.regions):
        concept = concepts[region.concept]
        word = rf"\b{re.escape(concept.class_word)}\b"
        if region.concept == layout.background:
            continue
        if concept.class_word and re.search(word, prompt):
            mark = f"\0{number}\0"  # not the tokens yet: a trigger may hold another class word
            prompt = re.sub(word, mark, prompt, count=1)
            said[mark] = concept.call
        else:
            behind.append(region_prompt(region, layout, concepts))
    if layout.background:
        said[concepts[layout.background].placeholder] = concepts[layout.background].call
    prompt = written_out(prompt, said)
    return ", ".join([prompt, *behind])


def mentions_of(word: str, prompt: str) -> int:
    """How often `prompt` says `word`, in whatever case."""
    return len(re.findall(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE))


def scene_of(layout: Layout, concepts: Mapping[str, Concept], behind: Concept | None = None) -> str:
    """The layout's prompt without its subjects: "a dog and a cat on the grass" is "on the grass".

    Of each region one mention of its class word goes, with the article and the comma or "and"
    before it. behind: the concept whose own words stay; of all others the class words.
    """
    own = [concepts[name] for name in layout.concepts]
    prompt = described(layout.prompt, [concept for concept in own if concept is not behind])
    for region in layout.regions:
        word = re.escape(concepts[region.concept].class_word)
        if word:
            mention = rf"(?:,?\s*\band\b\s+|,\s*)?(?:\b(?:an?|the|one|two)\s+)?\b{word}s?\b"
            prompt = re.sub(mention, "", prompt, count=1)
    prompt = " ".join(prompt.split()).strip(" ,")
    return prompt if behind is None else behind.expand(prompt)


def described(prompt: str, concepts: Sequence[Concept]) -> str:
    """`prompt` with every concept's class word in place of its tokens."""
    if not concepts:
        return prompt
    said = {token: word for own in concepts for token, word in own.described_tokens.items()}
    said |= {concept.placeholder: concept.class_word for concept in concepts}
    return " ".join(written_out(prompt, said).split())


def others_described(
    layout: Layout, concepts: Mapping[str, Concept], own: Concept
) -> dict[str, str]:
    """Class words for the tokens and placeholders of every concept of the layout but `own`."""
    others = [concepts[name] for name in layout.concepts if concepts[name] is not own]
    said: dict[str, str] = {}
    for other in others:
        said |= other.described_tokens
    return said | {other.placeholder: other.class_word for other in others}


def check_tokens_differ(layout: Layout, concepts: Mapping[str, Concept]) -> None:
    """Raise InputError when two concepts of a layout have a token of the same name."""
    owner: dict[str, str] = {}
    for name in layout.concepts:
        for token in concepts[name].token_names:
            if owner.setdefault(token, name) != name:
                raise InputError(
                    f"layout {layout.name}: {owner[token]} and {name} both have a token {token}: "
                    "import one of them under another name"
                )


def remarks_on(layout: Layout, concepts: Mapping[str, Concept]) -> list[str]:
    """What in the prompts is read as plain letters though another tool would act on it."""
    used = [concepts[name] for name in layout.concepts]
    found = _in_prompt("the prompt", layout.prompt, used)
    found += _in_negative("the negative prompt", layout.negative_prompt)
    for number, region in enumerate(layout.regions, 1):
        where, own = f"region {number}", concepts[region.concept]
        mine = {own.placeholder, *own.token_names}
        found += [
            f"{where}: {word} acts in its own region only; its class word is said here"
            for other in used
            for word in (other.placeholder, *other.token_names)
            if word in region.prompt and word not in mine
        ]
        found += _in_prompt(where, region.prompt, used)
        found += _in_negative(f"{where}, negative prompt", region.negative_prompt or "")
    return list(dict.fromkeys(found))


def _in_prompt(where: str, prompt: str, used: Sequence[Concept]) -> list[str]:
    placeholders = [concept.placeholder for concept in used]
    known = {*placeholders, *(token for concept in used for token in concept.token_names)}
    found = [
        f"{where}: {word} is read as letters: it is no concept of this layout "
        f"({nearest(word, placeholders)})"
        for word in _PLACEHOLDER.findall(prompt)
        if word not in known
    ]
    return found + _of_other_tools(where, prompt)


def _in_negative(where: str, prompt: str) -> list[str]:
    found = [
        f"{where}: {word} is read as letters: no concept acts there"
        for word in _PLACEHOLDER.findall(prompt)
    ]
    return found + _of_other_tools(where, prompt)


def _of_other_tools(where: str, prompt: str) -> list[str]:
    found = [
        f"{where}: {match[0]} is read as letters: {advice}"
        for pattern, advice in _OTHER_TOOLS
        for match in pattern.finditer(prompt)
    ]
    separators = [] if prompt.isupper() else _SEPARATORS.findall(prompt)
    return found + [
        f"{where}: {word} is read as a word: it separates nothing; give each subject a region"
        for word in separators
    ]


_PLACEHOLDER = re.compile(
    r"<(?!(?:lora|lyco|lycoris|hypernet):)[^<>\s](?:[^<>]*[^<>\s])?>", re.IGNORECASE
)
_SEPARATORS = re.compile(r"\b(BREAK|AND|ADDCOL|ADDROW|ADDCOMM|ADDBASE)\b")
_OTHER_TOOLS = (
    (
        re.compile(r"<(?:lora|lyco|lycoris|hypernet):[^<>]*>", re.IGNORECASE),
        "a LoRA is named by a region's `concept:`, with `strength:`, not in the prompt "
        "(toolkit import FILE concept=NAME)",
    ),
    (
        re.compile(
            r"\([^()]*:\s*-?[0-9.,]+\s*\)|\(\([^():]*\)\)|\([^()]*\)(?:[0-9.]+|[+-]+)|[A-Za-z]+\+\++"
        ),
        "words have no weights here; `strength:` of a region scales its concept",
    ),
    (
        re.compile(r"\[[^\[\]]*:\s*[0-9.]+\s*\]"),
        "prompts do not change while a picture is made",
    ),
    (
        re.compile(r"\[[^\[\]]*\|[^\[\]]*\]|\{[^{}]*\|[^{}]*\}|__[\w/*-]+__"),
        "nothing is chosen here; write the one that is meant",
    ),
    (
        re.compile(r"\bembedding:[^\s,()]+", re.IGNORECASE),
        "an embedding is imported (toolkit import FILE concept=NAME) and then called <NAME>",
    ),
    (re.compile(r"\\[(\[][^()\[\]]*[)\]]"), "brackets need no backslash here"),
    (re.compile(r"&lt;[^&]*&gt;"), "write < and >"),
)
"""What other programs act on, and what to do here."""
