"""Does a world know where it is wrong? Calibration, bounds, signals, and faults injected to test them."""
