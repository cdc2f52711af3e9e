"""What is a world on disk: its spec, starts, calibration and weights, and where is one found?"""
