"""The inference role: requests made on the plasma chain become transactions of the PPDL chain, whose replicas answer them."""
