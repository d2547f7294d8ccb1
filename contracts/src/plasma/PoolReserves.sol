// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The reserves of an exchange and the mean price over time
/// @notice Reserves are kept here and never read from balances; whenever they change, the price that held until then is
/// added up with its seconds (Uniswap v2's accumulator), so that anybody can read a mean over any span.
abstract contract PoolReserves {
    uint112 private _ethReserve;
    uint112 private _tokenReserve;
    uint32 private _lastUpdate;
    /// @notice Sum of price (wei per token unit, times 2^112) times seconds; wraps around on purpose.
    uint256 public priceCumulative;

    error ReserveOverflow();

    /// @notice The reserves that set the price.
    function getReserves() public view returns (uint256 ethReserve, uint256 tokenReserve) {
        return (_ethReserve, _tokenReserve);
    }

    /// @notice `priceCumulative` as of this block; a mean price is the difference of two over their seconds.
    function currentPriceCumulative() external view returns (uint256 cumulative, uint256 timestamp) {
        return (_accumulated(), block.timestamp);
    }

    function _setReserves(uint256 ethReserve, uint256 tokenReserve) internal {
        require(ethReserve <= type(uint112).max && tokenReserve <= type(uint112).max, ReserveOverflow());
        priceCumulative = _accumulated();
        _ethReserve = uint112(ethReserve);
        _tokenReserve = uint112(tokenReserve);
        _lastUpdate = uint32(block.timestamp);
    }

    /// @dev Time wraps in 2106 and the sum wraps earlier; differences stay right, as in v2.
    function _accumulated() private view returns (uint256) {
        unchecked {
            uint256 elapsed = uint32(block.timestamp) - _lastUpdate;
            if (elapsed == 0 || _tokenReserve == 0) return priceCumulative;
            return priceCumulative + (uint256(_ethReserve) << 112) / _tokenReserve * elapsed;
        }
    }
}
