"""A member's own part in the rounds of one model, the same for a meter and for a hub: train, promise, show, judge.

    spans     from a past to the windows it trains on and those nobody trains on
    learner   evaluates the agreed model, trains it a little, hands back the difference
    answers   what the member says in each phase of a round
    pending   the update it promised, kept on its disk; durable: how such a file is replaced
Rules: a past stays in its process; what leaves is one clipped int16 update and one loss a round.
Not here: where the past comes from, messages and signatures (`edge_agent.learning`, `hub.learning.price_trainer`), and private
rounds.
"""
