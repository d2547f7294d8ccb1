"""What the trade proves: from what the home knows to the witnesses of `mint`, `buy` and `burn`.

Rules: values that a contract computes itself (period, asset, the day's first slot) are computed here in the same way; a
witness that breaks a rule of its statement is not noticed here but when it is proved. Pure.
Not here: which step is due (`planner`), the witnesses of sales and payments (`edge_agent.wallet.notes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.market import blindings
from edge_agent.market.agreed import AgreedSlot
from edge_agent.market.blindings import Outcome
from edge_agent.market.calls import PoolCalls, Purchase, Sale
from edge_agent.wallet.spends import Consumption
from openmg.market.calendar import BANDS, Calendar
from openmg.zk.assets import Kind, energy_asset
from openmg.zk.circuits.burn import BurnWitness
from openmg.zk.circuits.buy import BuyWitness
from openmg.zk.circuits.mint import MintWitness
from openmg.zk.meters import Registration, buy_nullifier
from openmg.zk.notes import Note, SpendingKey, encrypt_note


def asset_of(kind: Kind, microgrid: int, key: int) -> int:
    """The energy asset of a day and band."""
    return energy_asset(kind, microgrid, *divmod(key, BANDS))


@dataclass(frozen=True)
class WitnessMaker:
    """One owner's witnesses for one pool."""

    seed: bytes
    owner: SpendingKey
    microgrid: int
    calendar: Calendar
    calls: PoolCalls

    def mint(
        self, registration: Registration, agreed: AgreedSlot, valid_until: int, ephemeral_secret: bytes
    ) -> tuple[MintWitness, bytes]:
        """The witness, and the note's ciphertext to ourselves; `ephemeral_secret` is 32 random bytes of one use."""
        slot = agreed.slot
        asset = asset_of(Kind.SUPPLY, self.microgrid, self.calendar.key_of(slot))
        blinding = blindings.mint_blinding(self.seed, slot)
        note = Note(asset, agreed.exported.energy_wh, self.owner.public_key, blinding)
        ciphertext = encrypt_note(note, self.owner.address, ephemeral_secret)
        witness = MintWitness(
            registration=registration,
            slot=slot,
            period=self.calendar.period_of(slot),
            asset=asset,
            export_opening=agreed.exported,
            import_commitment=agreed.imported.point,
            slot_place=agreed.place,
            slot_root=agreed.root,
            note_blinding=blinding,
            ext=self.calls.mint_ext(slot, valid_until, ciphertext),
        )
        return witness, ciphertext

    def sale(self, key: int, lots: int, slot: int) -> Sale:
        """What a sale begun in that slot says."""
        return Sale(key, lots, self._partial(Outcome.PAYOUT, slot, key))

    def purchase(self, meter_secret: int, slot: int, lots: int) -> Purchase:
        """What the slot's purchase says."""
        partials = (self._partial(outcome, slot) for outcome in (Outcome.DELIVERY, Outcome.CHANGE))
        return Purchase(slot, lots, buy_nullifier(meter_secret, slot), *partials)

    def _partial(self, outcome: Outcome, slot: int, key: int = 0) -> int:
        return blindings.outcome_partial(self.seed, self.owner.public_key, outcome, slot, key)

    def buy(self, registration: Registration, agreed: AgreedSlot, purchase: Purchase, ext: int) -> BuyWitness:
        """`ext` is that of the payment beside it (`PoolCalls.purchase_ext`)."""
        return BuyWitness(
            registration=registration,
            slot=agreed.slot,
            lots=purchase.lots,
            export_commitment=agreed.exported.point,
            import_opening=agreed.imported,
            slot_place=agreed.place,
            slot_root=agreed.root,
            delivery_blinding=blindings.outcome_blinding(self.seed, Outcome.DELIVERY, agreed.slot),
            ext=ext,
        )

    def burn(self, registration: Registration, key: int, consumed: Consumption) -> BurnWitness:
        """Burns notes of the key that were set aside; `registration` is under the root of the day's last slot."""
        first_slot = self.calendar.first_slot_of(key)
        return BurnWitness(
            spending_key=self.owner.secret,
            tree_number=consumed.tree_number,
            tree_root=consumed.tree_root,
            inputs=consumed.inputs,
            registration=registration,
            first_slot=first_slot,
            period=self.calendar.period_of(first_slot),
            asset=asset_of(Kind.DELIVERY, self.microgrid, key),
            total_blinding=blindings.burn_blinding(self.seed, key),
            ext=self.calls.burn_ext(key, consumed.valid_until),
        )
