"""Does an agent trained only inside the world succeed in physics? Matched starts, random and no-op policies beside it.

python benchmarks/transfer.py AGENT WORLD_ID --episodes 400
"""

from __future__ import annotations

import argparse

from common import write_results

from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
