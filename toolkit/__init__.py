"""Train one ED-LoRA per concept, then compose several of them into one picture."""

__version__ = "0.1.0"
