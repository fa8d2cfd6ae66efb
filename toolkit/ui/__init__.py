"""The page on which layouts are drawn and made, and the HTTP API under it."""
