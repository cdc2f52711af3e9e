"""How does a recording become a world?"""


def train(*args, **kwargs):
    """See `wm_gym.training.trainer.train`; imported at the first call, because torch takes a second to load."""
    from wm_gym.training.trainer import train as run

    return run(*args, **kwargs)
