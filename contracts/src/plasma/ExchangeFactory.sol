// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IExchangeFactory} from "../interfaces/IExchange.sol";
import {Exchange} from "./Exchange.sol";

/// @title One exchange per token, with the interface of Uniswap v1's factory
/// @notice Anyone may open the exchange of a token; whether it may hold energy is the registry's decision.
contract ExchangeFactory is IExchangeFactory {
    /// @notice Exchanges opened so far; the newest token's id. The first is 1.
    uint256 public tokenCount;
    /// @inheritdoc IExchangeFactory
    mapping(address token => address) public getExchange;
    /// @notice The token of an exchange of this factory, or 0.
    mapping(address exchange => address) public getToken;
    /// @notice The token of an id, or 0.
    mapping(uint256 tokenId => address) public getTokenWithId;

    event NewExchange(address indexed token, address indexed exchange);

    error InvalidToken(address token);
    error ExchangeExists(address token);

    /// @notice Opens the exchange of a token, once.
    /// @param token A contract.
    /// @return exchange Address of the new exchange.
    function createExchange(address token) external returns (address exchange) {
        require(token.code.length > 0, InvalidToken(token));
        require(getExchange[token] == address(0), ExchangeExists(token));
        exchange = address(new Exchange(token));
        getExchange[token] = exchange;
        getToken[exchange] = token;
        getTokenWithId[++tokenCount] = token;
        emit NewExchange(token, exchange);
    }
}
