"""What a notebook calls, checked as the commands check; `toolkit/__init__.py` lists it."""
