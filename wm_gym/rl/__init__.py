"""How are policies trained, kept and measured? Stable-Baselines3 underneath; import the submodules by name."""
