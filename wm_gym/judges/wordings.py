"""In how many ways can a relation be said? Phrasings to teach, and others kept back to measure with."""

from __future__ import annotations

from itertools import product

WORDS = {
    "block": ["block", "yellow block", "cube", "yellow cube", "yellow box", "yellow object", "box"],
    "disc": ["blue disc", "target", "goal", "blue circle", "disc", "blue target", "blue spot", "green target"],
    "hand": ["hand", "gripper", "robot", "red foot", "pusher", "robot hand", "end-effector", "tool"],
    "handle": ["handle", "drawer handle", "yellow handle", "drawer's handle"],
    "ball": ["ball", "green ball", "sphere", "target", "goal", "green target"],
    "drawer": ["drawer", "green drawer", "drawer of the cabinet"],
}
"""Nouns that are taught, the plainest first."""

OTHER_WORDS = {
    "block": ["brick", "yellow square"],
    "disc": ["blue pad", "goal marker"],
    "hand": ["arm", "manipulator"],
    "handle": ["grip", "pull"],
    "ball": ["green orb", "marker ball"],
    "drawer": ["tray", "compartment"],
}
"""Nouns that are not."""

PHRASES = {
    "on goal": (
        "{block} is on {disc}; {block} lies on {disc}; {block} covers {disc}; {block} has reached {disc}; "
        "{block} is at {disc}; {block} sits on top of {disc}; {block} is in the middle of {disc}; "
        "{block} rests upon {disc}; robot has pushed {block} onto {disc}; {disc} is under {block}; "
        "{disc} is covered by {block}; {block} was brought to {disc}; {block} is placed on {disc}; "
        "push {block} onto {disc}; move {block} to {disc}; {block} is inside {disc}",
        "{block} stands on {disc}; {block} has arrived at {disc}; {disc} lies beneath {block}; "
        "slide {block} over to {disc}; {block} is positioned on {disc}",
    ),
    "near goal": (
        "{block} is near {disc}; {block} is close to {disc}; {block} is not far from {disc}; "
        "{block} is almost at {disc}; {block} and {disc} are close together; {block} is within reach of {disc}",
        "{block} is in the vicinity of {disc}; {block} is next to {disc}",
    ),
    "far from goal": (
        "{block} is far from {disc}; {block} is a long way from {disc}; {block} is distant from {disc}; "
        "{block} and {disc} are far apart; {block} is nowhere near {disc}; {block} is not close to {disc}",
        "{block} is remote from {disc}; there is a large distance between {block} and {disc}",
    ),
    "hand touches block": (
        "{hand} touches {block}; {hand} is in contact with {block}; {hand} is at {block}; {hand} pushes {block}; "
        "{hand} is against {block}; {block} is touched by {hand}",
        "{hand} has got hold of the side of {block}; {hand} makes contact with {block}",
    ),
    "hand away from block": (
        "{hand} is away from {block}; {hand} is far from {block}; {hand} does not touch {block}; "
        "{hand} is a long way from {block}; {hand} and {block} are apart",
        "{hand} keeps its distance from {block}; {hand} is not in contact with {block}",
    ),
    "hand over goal": (
        "{hand} is over {disc}; {hand} is at {disc}; {hand} is above the middle of {disc}; {hand} covers {disc}; "
        "{hand} has reached {disc}",
        "{hand} hovers over {disc}; {hand} has arrived at {disc}",
    ),
    "open": (
        "{drawer} is open; {drawer} is pulled out; {drawer} has been opened; {drawer} stands open; "
        "{drawer} is fully open; open {drawer}; pull {drawer} open; robot has opened {drawer}; {drawer} is out; "
        "{drawer} is wide open",
        "{drawer} has been drawn out; {drawer} is no longer shut; pull out {drawer}",
    ),
    "closed": (
        "{drawer} is closed; {drawer} is shut; {drawer} is in; {drawer} has not been opened; close {drawer}; "
        "{drawer} is pushed in; {drawer} is fully closed",
        "{drawer} has not been pulled out; {drawer} stays shut",
    ),
    "half open": (
        "{drawer} is half open; {drawer} is partly open; {drawer} is a little open; {drawer} is ajar; "
        "{drawer} is neither open nor closed; {drawer} is half way out",
        "{drawer} is partially open; {drawer} is pulled out half way",
    ),
    "hand at handle": (
        "{hand} is at {handle}; {hand} touches {handle}; {hand} is close to {handle}; {hand} has reached {handle}; "
        "{hand} is near {handle}",
        "{hand} has arrived at {handle}; {hand} is next to {handle}",
    ),
    "hand away from handle": (
        "{hand} is away from {handle}; {hand} is far from {handle}; {hand} is not at {handle}; "
        "{hand} is a long way from {handle}",
        "{hand} keeps its distance from {handle}; {hand} is remote from {handle}",
    ),
    "hand at ball": (
        "{hand} is at {ball}; {hand} touches {ball}; {hand} has reached {ball}; {hand} is on {ball}; "
        "move {hand} to {ball}; {hand} holds {ball}; reach {ball} with {hand}; {ball} is touched by {hand}",
        "{hand} has arrived at {ball}; {hand} makes contact with {ball}; bring {hand} to {ball}",
    ),
    "hand near ball": (
        "{hand} is near {ball}; {hand} is close to {ball}; {hand} is not far from {ball}",
        "{hand} is in the vicinity of {ball}; {hand} is next to {ball}",
    ),
    "hand far from ball": (
        "{hand} is far from {ball}; {hand} is a long way from {ball}; {hand} is away from {ball}; "
        "{hand} and {ball} are far apart; {hand} is distant from {ball}",
        "{hand} keeps its distance from {ball}; {hand} is remote from {ball}",
    ),
}
"""Relation -> (phrases that are taught, phrases that are not), each parted by a semicolon."""

SIDES = {
    "left": (
        "{a} is to the left of {b}; {a} is left of {b}; {a} is on the left side of {b}; {a} is on the left of {b}; "
        "{a} stands to the left of {b}",
        "{a} lies on {b}'s left; {a} is further left than {b}",
    ),
    "right": (
        "{a} is to the right of {b}; {a} is right of {b}; {a} is on the right side of {b}; {a} is on the right of {b}; "
        "{a} stands to the right of {b}",
        "{a} lies on {b}'s right; {a} is further right than {b}",
    ),
    "above": (
        "{a} is above {b}; {a} is higher up in the picture than {b}; {a} is behind {b}; {a} is at the back of {b}",
        "{a} is farther away from the viewer than {b}; {a} is further up than {b}",
    ),
    "below": (
        "{a} is below {b}; {a} is lower in the picture than {b}; {a} is in front of {b}; {a} is at the front of {b}",
        "{a} is nearer to the viewer than {b}; {a} is further down than {b}",
    ),
}
"""Only their order says which of two things is where, and sentence embeddings hardly hold it: so no phrase here is
another one with its things exchanged."""

NAMES = {"goal": "disc"}  # a relation's word -> the noun's key


def sentences(relation: str, taught: bool = True) -> list[str]:
    """The sentences that say a relation.

    Args:
        relation: One of `wm_gym.judges.captions.RELATIONS`.
        taught: Those to teach; else those kept back: other phrases with all nouns, taught ones and others.
    """
    made = []
    for phrase in _phrases(relation, 0 if taught else 1):
        keys = [key for key in WORDS if "{" + key + "}" in phrase]
        nouns = [WORDS[key] if taught else WORDS[key] + OTHER_WORDS[key] for key in keys]
        made += [phrase.format(**{key: f"the {noun}" for key, noun in zip(keys, chosen)}) for chosen in product(*nouns)]
    return made


def _phrases(relation: str, which: int) -> list[str]:
    if relation in PHRASES:
        return PHRASES[relation][which].split("; ")
    first, side, *_, second = relation.split()
    slots = {key: "{" + NAMES.get(word, word) + "}" for key, word in (("a", first), ("b", second))}
    return SIDES[side][which].format(**slots).split("; ")
