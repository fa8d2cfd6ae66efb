"""How the embedded base model is made: open art in, a Stable Diffusion folder out."""
