"""Stable Diffusion's U-Net as a backbone."""
