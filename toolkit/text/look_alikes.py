"""Punctuation that looks like that of YAML, JSON and `key=value`, and is another character."""

_MEANT = {
    "：": ":", "，": ",", "、": ",", "＝": "=", "＜": "<", "＞": ">", "［": "[", "］": "]",
    "【": "[", "】": "]", "｛": "{", "｝": "}", "“": '"', "”": '"', "„": '"', "＂": '"',
    "‘": "'", "’": "'", "－": "-", "−": "-", "＃": "#",
    "\u3000": "a space", "\xa0": "a space",
}  # fmt: skip


def look_alikes(text: str) -> str:
    """`： is no :` for a message, of the first such character in `text`; empty where none is."""
    found = next((character for character in text if character in _MEANT), "")
    shown = found if found.isprintable() else f"U+{ord(found):04X}"
    return f"{shown} is no {_MEANT[found]}" if found else ""
