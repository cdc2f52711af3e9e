"""How far can a world be trusted? One room a kind of measurement."""
