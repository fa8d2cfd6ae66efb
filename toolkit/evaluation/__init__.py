"""How good compositions are: identity, prompt, vanishing, confusion and placement."""
