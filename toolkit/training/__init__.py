"""Stage one: a folder of images of one concept becomes an ED-LoRA."""
