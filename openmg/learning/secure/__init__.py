"""Private rounds of learning: the hub opens the sum of the updates of a round and nothing else.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", with double masks, drop-out
recovery and a signed survivor set (its protocol against a hub that cheats); above FULL_GRAPH_MEMBERS members the graph of
Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead". Words are 32 bits, sums modulo 2^32:
4,096 updates of 16 bits stay below 2^27, which leaves 2^31 - 2^27 for noise.

A round, each step a pure function of the device (`device`) and a state of the hub (`hub`):
  deal     a member draws two secrets, the seed of its self mask and the round's X25519 key, and shares both by Shamir
           among its neighbours, each share sealed for its holder.
  mask     it adds to its update its self mask and one mask for each neighbour that dealt; that is all that leaves it.
  sign     the hub closes the round's survivor set; who is in it signs it, one set a round.
  unmask   with signatures of at least `threshold` survivors a member reveals, for each member whose shares it holds, *either*
           the share of its self mask (a survivor) *or* that of its pairwise key (dropped out), never both.
  open     the hub takes the self masks of the survivors and the unmatched pairwise masks of the others off the sum.

Rules:
- What a step must remember is a value (`DeviceMemory`) that the caller stores durably *before* it sends the step's answer.
- An update that comes after the survivor set is closed is never opened, and the hub refuses it.
- Fewer than `threshold` members at any step: the round opens nothing.
- A hub that shows different sets to different members gets less than `threshold` signatures for at least one of them, as
  long as fewer than n/3 members collude with it: two sets of more than 2n/3 signers share more than n/3.
- Chance is handed in as bytes; nothing here draws it.

**What this mode excludes.** Nobody sees a single update, so no rule can look at one: no norm cap, no Krum, no trimming, no
rejection of whoever lies. What remains against hostile devices is the clipping that each device does *itself* (a hostile one
may skip it) and the norm of the group's sum (`plausible`), which only tells that somebody did. `groups` offers masks inside
groups of at least five and a robust rule across the groups' means; a group with one liar is a lying row, so that is weak.
Not here: who registers a member's mask key, transport, storage, the phases of a chain's rounds (`chain_round` has their terms).
"""
