"""How are recordings made: in any environment, in parallel, or imagined in a world?"""
