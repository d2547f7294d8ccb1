"""CometBFT as an engine of the PPDL chain: our `Application` served over ABCI 2.0, the node as a child process."""
