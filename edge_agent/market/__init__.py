"""The meter's private energy trade: mint, sell, buy and burn with proofs, and the period's statement for the utility."""
