"""The `openmg` command: the demo, tools and benches. It may import every other part; nothing imports it."""
