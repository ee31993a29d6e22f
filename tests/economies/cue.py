"""A game of memory as its players meet it: the cue is seen in the first period of an episode and must be repeated in all later ones."""
from envs.core.choices import levels
from envs.core.economy import Agent, Economy
from envs.core.features import own
from tests.economies import cue_kernel

ECONOMY = Economy(
    kernel=cue_kernel,
    horizon="horizon",
    backend="numpy",
    agents={"player": Agent(count="n_players", sees=(own("shown"),), chooses=(levels("answer", 0, 1, 2),), reward_unit="points")},
    measures={"right": lambda s: s.right.mean(-1)},
)
