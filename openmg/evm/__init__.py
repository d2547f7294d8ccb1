"""The little of Ethereum that a meter needs without a node or a heavy library: ABI words, RLP, signed transactions."""
