"""Which dataset formats are read and written? One file a format, found by `registry`."""
