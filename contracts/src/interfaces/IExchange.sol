// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The events of an exchange, and what one exchange asks of another in a token-to-token trade
interface IExchange {
    event TokenPurchase(address indexed buyer, uint256 indexed eth_sold, uint256 indexed tokens_bought);
    event EthPurchase(address indexed buyer, uint256 indexed tokens_sold, uint256 indexed eth_bought);
    event AddLiquidity(address indexed provider, uint256 indexed eth_amount, uint256 indexed token_amount);
    event RemoveLiquidity(address indexed provider, uint256 indexed eth_amount, uint256 indexed token_amount);

    function tokenAddress() external view returns (address);
    function getEthToTokenOutputPrice(uint256 tokensBought) external view returns (uint256 ethSold);
    function ethToTokenTransferInput(uint256 minTokens, uint256 deadline, address recipient)
        external
        payable
        returns (uint256 tokensBought);
    function ethToTokenTransferOutput(uint256 tokensBought, uint256 deadline, address recipient)
        external
        payable
        returns (uint256 ethSold);
}

/// @title The register of exchanges, one per token
interface IExchangeFactory {
    function getExchange(address token) external view returns (address exchange);
}
