"""How are actions read off video? The training of such networks, and the labeller of recordings."""
