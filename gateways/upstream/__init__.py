"""Upstream recharge systems: two families behind one registry, each with a sandbox."""

from gateways.upstream.recharge import Account, Recharge, RechargeOutcome, RechargeState, Upstream
from gateways.upstream.registry import upstreams

__all__ = ["Account", "Recharge", "RechargeOutcome", "RechargeState", "Upstream", "upstreams"]
