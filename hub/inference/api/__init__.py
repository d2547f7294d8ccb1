"""The HTTP side of the inference role: who may ask (`gate`), what is answered (`answers`), the application (`app`)."""
