"""The market role: what meters are told of the plasma chain, the recording of agreed slots, and the tie line."""
