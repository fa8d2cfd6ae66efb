"""Stage two at scale: many layouts and seeds, a journal of what is made, and processes."""
