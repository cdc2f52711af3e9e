"""How far can a world be believed? One file a question."""
