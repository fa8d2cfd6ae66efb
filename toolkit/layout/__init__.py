"""What a person draws: layouts, their regions, and the cells that a region holds."""
