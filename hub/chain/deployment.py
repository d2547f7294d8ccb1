"""Where the contracts are, as a file that every hub reads: chain ids and addresses by name (JSON)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.chain.deploy import EnergyMarket, PlasmaContracts, RootContracts, contract_at
from hub.chain.errors import DeploymentError
from hub.chain.verifiers import CIRCUITS, contract_name


@dataclass(frozen=True)
class Deployment:
    """The contracts of both chains."""

    root: RootContracts
    plasma: PlasmaContracts

    def to_json(self) -> dict[str, Any]:
        """Chain ids and checksummed addresses."""
        return {
            "root": {
                "chain_id": self.root.chain_id,
                "contracts": {"PlasmaRoot": self.root.plasma_root.checksum_address},
            },
            "plasma": {
                "chain_id": self.plasma.chain_id,
                "microgrids": [market.microgrid for market in self.plasma.markets],
                "contracts": self.plasma.addresses(),
            },
        }


def load_deployment(path: Path) -> Deployment:
    """The deployment in the file; DeploymentError when it is missing or not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        root, plasma = data["root"], data["plasma"]
        names = plasma["contracts"]
        markets = tuple(
            EnergyMarket(
                microgrid,
                contract_at("EnergyToken", names[f"EnergyToken{microgrid}"]),
                contract_at("Exchange", names[f"Exchange{microgrid}"]),
                contract_at("EnergyPool", names[f"EnergyPool{microgrid}"]),
            )
            for microgrid in plasma["microgrids"]
        )
        return Deployment(
            RootContracts(root["chain_id"], contract_at("PlasmaRoot", root["contracts"]["PlasmaRoot"])),
            PlasmaContracts(
                plasma["chain_id"],
                bridge=contract_at("PethBridge", names["PethBridge"]),
                confidential=contract_at("ConfidentialToken", names["ConfidentialToken"]),
                registry=contract_at("MeterRegistry", names["MeterRegistry"]),
                relay=contract_at("PpdlRelay", names["PpdlRelay"]),
                factory=contract_at("ExchangeFactory", names["ExchangeFactory"]),
                inference=contract_at("Inference", names["Inference"]),
                verifier_set=contract_at("VerifierSet", names["VerifierSet"]),
                verifiers=tuple(contract_at(name, names[name]) for name in map(contract_name, CIRCUITS)),
                energy_registry=contract_at("EnergyRegistry", names["EnergyRegistry"]),
                markets=markets,
                bonds=contract_at("SealBonds", names["SealBonds"]),
            ),
        )
    except OSError as error:
        raise DeploymentError(f"deployment file {path} cannot be read ({error.strerror}); deploy first") from error
    except (DeploymentError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DeploymentError(f"deployment file {path} is not complete ({error}); deploy again") from error
