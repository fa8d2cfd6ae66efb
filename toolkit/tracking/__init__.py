"""What a person looks at: attention maps, loss curves, sample grids, W&B."""
