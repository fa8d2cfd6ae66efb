"""Pictures and masks from files."""
