// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {PpdlRelay} from "../plasma/PpdlRelay.sol";
import {Certificate} from "./ValidatorSets.sol";

/// @title What PPDL validators stake on their seals
/// @notice A bond belongs to the address that seals. It is locked while the light client trusts that address and for
/// `UNBONDING_SECONDS` afterwards, so whoever can seal what the client accepts can lose its bond for it. Two seals of one
/// signer for different headers of one height and view prove it faulty: nobody who follows PBFT ever makes them.
/// @dev Two certificates of different views prove a fork, but not who caused it: PBFT makes a correct validator follow a
/// new view whose quorum of view changes hides a prepared block. The signers of both are accused, their bonds stay, and
/// the guardian of the client, who must look at the votes anyway, judges each. Not here: whether a validator must bond.
contract SealBonds is ReentrancyGuardTransient {
    /// @notice Hundredths of a slashed bond for whoever brings the evidence; a tenth, so that reporting oneself is dear.
    uint256 public constant REPORTER_PERCENT = 10;
    /// @notice Sets that may have passed between the start of an unbonding and the withdrawal.
    uint256 public constant MAX_SETS_PASSED = 64;
    uint256 private constant SEAL_BYTES = 65;

    /// @notice The light client whose validators bond here.
    PpdlRelay public immutable relay;

    /// @param amount Wei at stake.
    /// @param releaseFrom First Unix second at which it may be withdrawn; 0 while no unbonding is under way.
    /// @param sinceSet Number of the set in force when the unbonding began.
    /// @param accused Whether a certificate pair of different views names its owner.
    struct Bond {
        uint256 amount;
        uint64 releaseFrom;
        uint32 sinceSet;
        bool accused;
    }

    mapping(address validator => Bond) public bonds;

    event Bonded(address indexed validator, uint256 amount, uint256 total);
    event UnbondingStarted(address indexed validator, uint256 releaseFrom);
    event Withdrawn(address indexed validator, uint256 amount);
    event Accused(address indexed validator, uint256 indexed setNumber);
    event Acquitted(address indexed validator);
    event Slashed(address indexed validator, address indexed reporter, uint256 amount);

    error NothingBonded(address validator);
    error StillValidator(address validator, uint256 setNumber);
    error NotReleased(uint256 releaseFrom);
    error RelayFrozen();
    error TooManySetsPassed();
    error BondAccused();
    error NotAccused(address validator);
    error NotGuardian(address caller);
    error NotTheSameSigner(address one, address other);
    error NotEquivocation();
    error MalformedSeals(uint256 length);
    error PaymentFailed();

    constructor(PpdlRelay relay_) {
        relay = relay_;
    }

    /// @notice Adds to the bond of a validator; what is added is released with the rest.
    function bond(address validator) external payable {
        uint256 total = bonds[validator].amount + msg.value;
        bonds[validator].amount = total;
        emit Bonded(validator, msg.value, total);
    }

    /// @notice Begins the caller's unbonding, once the client trusts it no more.
    function startUnbonding() external {
        Bond storage own = bonds[msg.sender];
        require(own.amount > 0, NothingBonded(msg.sender));
        uint256 current = relay.setNumber();
        _requireOutside(msg.sender, current);
        uint256 releaseFrom = block.timestamp + relay.UNBONDING_SECONDS() + 1;
        own.releaseFrom = uint64(releaseFrom);
        own.sinceSet = uint32(current);
        emit UnbondingStarted(msg.sender, releaseFrom);
    }

    /// @notice Pays the caller's bond back, if it was trusted in no set since its unbonding began.
    function withdraw() external nonReentrant {
        Bond memory own = bonds[msg.sender];
        require(own.amount > 0, NothingBonded(msg.sender));
        require(own.releaseFrom != 0 && block.timestamp >= own.releaseFrom, NotReleased(own.releaseFrom));
        require(!own.accused, BondAccused());
        require(!relay.frozen(), RelayFrozen());
        uint256 current = relay.setNumber();
        require(current - own.sinceSet <= MAX_SETS_PASSED, TooManySetsPassed());
        for (uint256 number = own.sinceSet; number <= current; ++number) {
            _requireOutside(msg.sender, number);
        }
        delete bonds[msg.sender];
        emit Withdrawn(msg.sender, own.amount);
        _pay(msg.sender, own.amount);
    }

    /// @notice Takes the bonds of all who sealed both of two headers in one view of one height.
    /// @param height Height of both headers.
    /// @param view_ PBFT view of all seals.
    /// @param oneHash Hash of one header, `otherHash` of the other.
    /// @param oneSeals Seals over the one, 65 bytes each, as many as `otherSeals`, of the same signers in the same order.
    function slashEquivocation(
        uint256 height,
        uint256 view_,
        bytes32 oneHash,
        bytes32 otherHash,
        bytes calldata oneSeals,
        bytes calldata otherSeals
    ) external nonReentrant {
        require(oneHash != otherHash, NotEquivocation());
        require(
            oneSeals.length > 0 && oneSeals.length % SEAL_BYTES == 0 && oneSeals.length == otherSeals.length,
            MalformedSeals(oneSeals.length)
        );
        bytes32 oneDigest = relay.sealDigest(height, view_, oneHash);
        bytes32 otherDigest = relay.sealDigest(height, view_, otherHash);
        uint256 taken = 0;
        for (uint256 start = 0; start < oneSeals.length; start += SEAL_BYTES) {
            address one = ECDSA.recoverCalldata(oneDigest, oneSeals[start:start + SEAL_BYTES]);
            address other = ECDSA.recoverCalldata(otherDigest, otherSeals[start:start + SEAL_BYTES]);
            require(one == other, NotTheSameSigner(one, other));
            taken += _take(one);
        }
        _share(taken);
    }

    /// @notice Holds the bonds of all who signed both of two certificates that prove a fork, until they are judged.
    function accuse(uint256 setNumber, Certificate calldata one, Certificate calldata other) external {
        address[] memory both = relay.signersOfBoth(setNumber, one, other);
        for (uint256 i = 0; i < both.length; ++i) {
            bonds[both[i]].accused = true;
            emit Accused(both[i], setNumber);
        }
    }

    /// @notice The guardian's word on an accused validator: its bond goes to the relayers' fund, or is free again.
    function judge(address validator, bool guilty) external nonReentrant {
        require(msg.sender == relay.guardian(), NotGuardian(msg.sender));
        require(bonds[validator].accused, NotAccused(validator));
        if (!guilty) {
            bonds[validator].accused = false;
            emit Acquitted(validator);
            return;
        }
        require(bonds[validator].amount > 0, NothingBonded(validator));
        relay.fund{value: _take(validator)}();
    }

    /// @dev Takes a whole bond.
    function _take(address validator) private returns (uint256 amount) {
        amount = bonds[validator].amount;
        require(amount > 0, NothingBonded(validator));
        delete bonds[validator];
        emit Slashed(validator, msg.sender, amount);
    }

    /// @dev A part to the reporter, the rest to the relayers' fund.
    function _share(uint256 amount) private {
        uint256 reward = amount * REPORTER_PERCENT / 100;
        relay.fund{value: amount - reward}();
        _pay(msg.sender, reward);
    }

    function _requireOutside(address validator, uint256 number) private view {
        require(!relay.verifierOf(number).contains(validator), StillValidator(validator, number));
    }

    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }
}
