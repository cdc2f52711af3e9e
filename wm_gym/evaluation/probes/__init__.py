"""What do small networks read off frames: states, positions, actions?"""
