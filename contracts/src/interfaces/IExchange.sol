// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The events of an exchange, and what one exchange asks of another in a token-to-token trade
interface IExchange {
    event TokenPurchase(address indexed buyer, uint256 indexed eth_sold, uint256 indexed tokens_bought);
    event EthPurchase(address indexed buyer, uint256 indexed tokens_sold, uint256 indexed eth_bought);
    event AddLiquidity(address indexed provider, uint256 indexed eth_amount, uint256 indexed token_amount);
    event RemoveLiquidity(address indexed provider, uint256 indexed eth_amount, uint256 indexed token_amount);

    /// @notice The token of this exchange.
    function tokenAddress() external view returns (address);
    /// @notice Native coin that so many tokens cost now.
    function getEthToTokenOutputPrice(uint256 tokensBought) external view returns (uint256 ethSold);
    /// @notice Sells all the sent native coin; the tokens go to the recipient.
    function ethToTokenTransferInput(uint256 minTokens, uint256 deadline, address recipient)
        external
        payable
        returns (uint256 tokensBought);
    /// @notice Buys exactly so many tokens for the recipient; what was sent too much comes back to the sender.
    function ethToTokenTransferOutput(uint256 tokensBought, uint256 deadline, address recipient)
        external
        payable
        returns (uint256 ethSold);
}

/// @title The register of exchanges, one per token
interface IExchangeFactory {
    /// @notice The exchange of a token, or 0.
    function getExchange(address token) external view returns (address exchange);
}
