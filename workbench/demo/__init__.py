"""`openmg demo`: a whole microgrid on one machine, every part a real process."""
