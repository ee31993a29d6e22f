"""The gather-trade-build world with the observations of the original program: world-map, world-idx_map and flat, side by side.

For a map with water and windows, a worker's 847 + 242 + 136 numbers (four agents) are the original's world-map (7, 11, 11), world-idx_map
(2, 11, 11) and flat, in which time stands too; the planner's are world-map (6, H, W), world-idx_map (2, H, W), flat, then p0, p1, ...
"""
from envs.core.features import own, public
from envs.gather_trade_build import FLAT, OF_PLANNER, economy
from kernels import gather_trade_build_views as views

ECONOMY = economy(
    "gather_trade_build_original",
    (own("world_map", when="has_map", of=lambda s: views.channels(s.view[:, :, 0])),
     own("world_idx_map", when="has_map", of=lambda s: s.view[:, :, 1:].reshape(*s.view.shape[:2], -1)), FLAT),
    (public("world_map", when="planner_has_view", of=lambda s: views.channels(s.planner_view[:, 0])[:, :-1]),
     public("world_idx_map", when="planner_has_view", of=lambda s: s.planner_view[:, 1:].reshape(len(s.planner_view), -1)), *OF_PLANNER),
)
