"""Which measurements are made of a world, in which jobs, and where are their results kept?"""
