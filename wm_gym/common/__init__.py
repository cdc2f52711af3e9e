"""What does every room use? Files, the cache, processes, statistics, pages; nothing of worlds."""
