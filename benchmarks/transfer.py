"""Does an agent trained only inside the world succeed in physics? Matched starts, random and no-op policies beside it.

python benchmarks/transfer.py AGENT WORLD_ID --episodes 400
"""

from __future__ import annotations

from common import Bar, command, write_results

from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results, summary


def off(found: dict) -> float:
    """How far from 0 the interval of success in the world minus in physics reaches."""
    return max(abs(found["world_minus_physics"][end]) for end in ("low", "high"))


BARS = {
    f"transfer_{world}": [
        Bar("success in physics", ("physics", "rate"), least=least, show="{:.1%}"),
        Bar("success in the world minus in physics, farthest end of its interval", off, most=0.10, show="{:.1%}"),
        Bar("success of random actions in physics", ("baselines", "random", "rate"), most=0.10, show="{:.1%}"),
        Bar("episodes", ("episodes",), least=400, show="{}"),
    ]
    for world, least in (("Reach-v0", 0.95), ("Push-v0", 0.80), ("Drawer-v0", 0.70))
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("agent")
    parser.add_argument("world")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1000, help="of the starts; training used others (default: 1000)")
    parser.add_argument("--save", action="store_true", help="also write the agent's card and results.json")
    args = parser.parse_args()
    agent = load_agent(args.agent)
    results = evaluate_matched(agent, args.world, None, args.episodes, args.seed)
    print(summary(results))
    if args.save:
        save_results(agent.folder, results)
    del results["per_episode"]
    write_results(f"transfer_{results['world_name']}", results)


if __name__ == "__main__":
    main()
