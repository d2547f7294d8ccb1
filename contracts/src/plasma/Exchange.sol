// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ConstantProduct} from "../lib/ConstantProduct.sol";
import {IExchange, IExchangeFactory} from "../interfaces/IExchange.sol";
import {PoolReserves} from "./PoolReserves.sol";

/// @title The pair of PETH and one token, with the interface and the arithmetic of Uniswap v1
/// @notice "ETH" in the names is the chain's native coin. A trade pays 0.3 % to the liquidity providers.
/// @dev Hardened where v1 was weak: reserves are kept here, not read from balances, so that a donation moves no price;
/// every function collects before it pays out and is locked; the first 1000 shares are locked for ever; the price is
/// accumulated over time (UQ112x112, as in v2) so that a mean can be read. In all functions, native coin is in wei and
/// tokens are in their smallest unit; `deadline` is the last Unix second that counts; `min...` and `max...` are bounds
/// that are still accepted. Left out: v1's `tokenToExchange*`, which sends value to an exchange of the caller's choice.
/// Not here: batches and the price collar.
contract Exchange is IExchange, ERC20, PoolReserves, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice Shares that nobody owns; they make an inflation attack on the first provider worthless.
    uint256 public constant MINIMUM_LIQUIDITY = 1000;
    /// @notice Least native coin of the first provider, as in v1.
    uint256 public constant MINIMUM_FIRST_ETH = 1_000_000_000;
    address private constant LOCKED = address(0xdead);

    IExchangeFactory private immutable _factory;
    IERC20 private immutable _token;

    error DeadlinePassed(uint256 deadline, uint256 time);
    error ZeroAmount();
    error InvalidRecipient(address recipient);
    error TooFewTokens(uint256 tokens, uint256 minimum);
    error TooManyTokens(uint256 tokens, uint256 maximum);
    error TooLittleEth(uint256 eth, uint256 minimum);
    error TooMuchEth(uint256 eth, uint256 maximum);
    error TooFewShares(uint256 shares, uint256 minimum);
    error TransferFee(uint256 expected, uint256 received);
    error UnknownExchange(address token);
    error PaymentFailed();

    modifier beforeDeadline(uint256 deadline) {
        require(block.timestamp <= deadline, DeadlinePassed(deadline, block.timestamp));
        _;
    }

    modifier validRecipient(address recipient) {
        require(recipient != address(0) && recipient != address(this), InvalidRecipient(recipient));
        _;
    }

    constructor(address token) ERC20("OpenMG Liquidity", "OMG-LP") {
        _factory = IExchangeFactory(msg.sender);
        _token = IERC20(token);
    }

    /// @notice Sells the sent native coin for tokens of the sender, as v1's default function.
    receive() external payable nonReentrant {
        _ethToTokenInput(msg.value, 1, msg.sender, msg.sender);
    }

    /// @notice Adds native coin and tokens in the ratio of the reserves; the first provider sets the ratio.
    /// @return minted Shares of the sender.
    function addLiquidity(uint256 minLiquidity, uint256 maxTokens, uint256 deadline)
        external
        payable
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256 minted)
    {
        require(maxTokens > 0 && msg.value > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        uint256 shares = totalSupply();
        uint256 tokens = maxTokens;
        if (shares > 0) {
            tokens = msg.value * tokenReserve / ethReserve + 1;
            minted = msg.value * shares / ethReserve;
            require(tokens <= maxTokens, TooManyTokens(tokens, maxTokens));
            require(minted > 0, TooFewShares(0, 1)); // what buys no share would be a gift to the others
        } else {
            require(msg.value >= MINIMUM_FIRST_ETH, TooLittleEth(msg.value, MINIMUM_FIRST_ETH));
            minted = msg.value - MINIMUM_LIQUIDITY;
            _mint(LOCKED, MINIMUM_LIQUIDITY);
        }
        require(minted >= minLiquidity, TooFewShares(minted, minLiquidity));
        _setReserves(ethReserve + msg.value, tokenReserve + tokens);
        _mint(msg.sender, minted);
        _collect(msg.sender, tokens);
        emit AddLiquidity(msg.sender, msg.value, tokens);
    }

    /// @notice Burns so many shares for their part of both reserves.
    /// @return ethAmount Native coin that the sender receives.
    /// @return tokenAmount Tokens that the sender receives.
    function removeLiquidity(uint256 amount, uint256 minEth, uint256 minTokens, uint256 deadline)
        external
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256 ethAmount, uint256 tokenAmount)
    {
        require(amount > 0 && minEth > 0 && minTokens > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        uint256 shares = totalSupply();
        ethAmount = amount * ethReserve / shares;
        tokenAmount = amount * tokenReserve / shares;
        require(ethAmount >= minEth, TooLittleEth(ethAmount, minEth));
        require(tokenAmount >= minTokens, TooFewTokens(tokenAmount, minTokens));
        _burn(msg.sender, amount);
        _setReserves(ethReserve - ethAmount, tokenReserve - tokenAmount);
        emit RemoveLiquidity(msg.sender, ethAmount, tokenAmount);
        _token.safeTransfer(msg.sender, tokenAmount);
        _pay(msg.sender, ethAmount);
    }

    /// @notice Sells all the sent native coin.
    /// @return Tokens bought.
    function ethToTokenSwapInput(uint256 minTokens, uint256 deadline)
        external
        payable
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256)
    {
        return _ethToTokenInput(msg.value, minTokens, msg.sender, msg.sender);
    }

    /// @notice Sells all the sent native coin; the tokens go to the recipient.
    /// @return Tokens bought.
    function ethToTokenTransferInput(uint256 minTokens, uint256 deadline, address recipient)
        external
        payable
        nonReentrant
        beforeDeadline(deadline)
        validRecipient(recipient)
        returns (uint256)
    {
        return _ethToTokenInput(msg.value, minTokens, msg.sender, recipient);
    }

    /// @notice Buys exactly so many tokens; what was sent too much comes back.
    /// @return Native coin sold.
    function ethToTokenSwapOutput(uint256 tokensBought, uint256 deadline)
        external
        payable
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256)
    {
        return _ethToTokenOutput(tokensBought, msg.value, msg.sender, msg.sender);
    }

    /// @notice Buys exactly so many tokens for the recipient; what was sent too much comes back to the sender.
    /// @return Native coin sold.
    function ethToTokenTransferOutput(uint256 tokensBought, uint256 deadline, address recipient)
        external
        payable
        nonReentrant
        beforeDeadline(deadline)
        validRecipient(recipient)
        returns (uint256)
    {
        return _ethToTokenOutput(tokensBought, msg.value, msg.sender, recipient);
    }

    /// @notice Sells exactly so many tokens.
    /// @return Native coin bought.
    function tokenToEthSwapInput(uint256 tokensSold, uint256 minEth, uint256 deadline)
        external
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256)
    {
        return _tokenToEthInput(tokensSold, minEth, msg.sender, msg.sender);
    }

    /// @notice Sells exactly so many tokens; the native coin goes to the recipient.
    /// @return Native coin bought.
    function tokenToEthTransferInput(uint256 tokensSold, uint256 minEth, uint256 deadline, address recipient)
        external
        nonReentrant
        beforeDeadline(deadline)
        validRecipient(recipient)
        returns (uint256)
    {
        return _tokenToEthInput(tokensSold, minEth, msg.sender, recipient);
    }

    /// @notice Buys exactly so much native coin.
    /// @return Tokens sold.
    function tokenToEthSwapOutput(uint256 ethBought, uint256 maxTokens, uint256 deadline)
        external
        nonReentrant
        beforeDeadline(deadline)
        returns (uint256)
    {
        return _tokenToEthOutput(ethBought, maxTokens, msg.sender, msg.sender);
    }

    /// @notice Buys exactly so much native coin for the recipient.
    /// @return Tokens sold.
    function tokenToEthTransferOutput(uint256 ethBought, uint256 maxTokens, uint256 deadline, address recipient)
        external
        nonReentrant
        beforeDeadline(deadline)
        validRecipient(recipient)
        returns (uint256)
    {
        return _tokenToEthOutput(ethBought, maxTokens, msg.sender, recipient);
    }

    /// @notice Sells exactly so many tokens for another token.
    /// @return Tokens of the other kind bought.
    function tokenToTokenSwapInput(
        uint256 tokensSold,
        uint256 minTokensBought,
        uint256 minEthBought,
        uint256 deadline,
        address tokenAddr
    ) external nonReentrant beforeDeadline(deadline) returns (uint256) {
        return _tokenToTokenInput(tokensSold, minTokensBought, minEthBought, deadline, msg.sender, tokenAddr);
    }

    /// @notice Sells exactly so many tokens for another token, which goes to the recipient.
    /// @return Tokens of the other kind bought.
    function tokenToTokenTransferInput(
        uint256 tokensSold,
        uint256 minTokensBought,
        uint256 minEthBought,
        uint256 deadline,
        address recipient,
        address tokenAddr
    ) external nonReentrant beforeDeadline(deadline) validRecipient(recipient) returns (uint256) {
        return _tokenToTokenInput(tokensSold, minTokensBought, minEthBought, deadline, recipient, tokenAddr);
    }

    /// @notice Buys exactly so many of another token.
    /// @return Tokens sold.
    function tokenToTokenSwapOutput(
        uint256 tokensBought,
        uint256 maxTokensSold,
        uint256 maxEthSold,
        uint256 deadline,
        address tokenAddr
    ) external nonReentrant beforeDeadline(deadline) returns (uint256) {
        return _tokenToTokenOutput(tokensBought, maxTokensSold, maxEthSold, deadline, msg.sender, tokenAddr);
    }

    /// @notice Buys exactly so many of another token for the recipient.
    /// @return Tokens sold.
    function tokenToTokenTransferOutput(
        uint256 tokensBought,
        uint256 maxTokensSold,
        uint256 maxEthSold,
        uint256 deadline,
        address recipient,
        address tokenAddr
    ) external nonReentrant beforeDeadline(deadline) validRecipient(recipient) returns (uint256) {
        return _tokenToTokenOutput(tokensBought, maxTokensSold, maxEthSold, deadline, recipient, tokenAddr);
    }

    /// @notice Tokens that so much native coin buys.
    function getEthToTokenInputPrice(uint256 ethSold) external view returns (uint256) {
        require(ethSold > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        return ConstantProduct.output(ethSold, ethReserve, tokenReserve);
    }

    /// @notice Native coin that so many tokens cost.
    function getEthToTokenOutputPrice(uint256 tokensBought) external view returns (uint256) {
        require(tokensBought > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        return ConstantProduct.input(tokensBought, ethReserve, tokenReserve);
    }

    /// @notice Native coin that so many tokens bring.
    function getTokenToEthInputPrice(uint256 tokensSold) external view returns (uint256) {
        require(tokensSold > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        return ConstantProduct.output(tokensSold, tokenReserve, ethReserve);
    }

    /// @notice Tokens that so much native coin costs.
    function getTokenToEthOutputPrice(uint256 ethBought) external view returns (uint256) {
        require(ethBought > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        return ConstantProduct.input(ethBought, tokenReserve, ethReserve);
    }

    /// @inheritdoc IExchange
    function tokenAddress() external view returns (address) {
        return address(_token);
    }

    /// @notice The factory that opened this exchange.
    function factoryAddress() external view returns (address) {
        return address(_factory);
    }

    function _ethToTokenInput(uint256 ethSold, uint256 minTokens, address buyer, address recipient)
        private
        returns (uint256 tokens)
    {
        require(ethSold > 0 && minTokens > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        tokens = ConstantProduct.output(ethSold, ethReserve, tokenReserve);
        require(tokens >= minTokens, TooFewTokens(tokens, minTokens));
        _setReserves(ethReserve + ethSold, tokenReserve - tokens);
        emit TokenPurchase(buyer, ethSold, tokens);
        _token.safeTransfer(recipient, tokens);
    }

    function _ethToTokenOutput(uint256 tokens, uint256 maxEth, address buyer, address recipient)
        private
        returns (uint256 ethSold)
    {
        require(tokens > 0 && maxEth > 0, ZeroAmount());
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        ethSold = ConstantProduct.input(tokens, ethReserve, tokenReserve);
        require(ethSold <= maxEth, TooMuchEth(ethSold, maxEth));
        _setReserves(ethReserve + ethSold, tokenReserve - tokens);
        emit TokenPurchase(buyer, ethSold, tokens);
        _token.safeTransfer(recipient, tokens);
        if (maxEth > ethSold) _pay(buyer, maxEth - ethSold);
    }

    function _tokenToEthInput(uint256 tokens, uint256 minEth, address seller, address recipient)
        private
        returns (uint256 eth)
    {
        require(tokens > 0 && minEth > 0, ZeroAmount());
        eth = _takeTokens(tokens, seller);
        require(eth >= minEth, TooLittleEth(eth, minEth));
        _pay(recipient, eth);
    }

    function _tokenToEthOutput(uint256 eth, uint256 maxTokens, address seller, address recipient)
        private
        returns (uint256 tokens)
    {
        require(eth > 0, ZeroAmount());
        tokens = _takeTokensFor(eth, maxTokens, seller);
        _pay(recipient, eth);
    }

    function _tokenToTokenInput(
        uint256 tokensSold,
        uint256 minTokensBought,
        uint256 minEthBought,
        uint256 deadline,
        address recipient,
        address tokenAddr
    ) private returns (uint256) {
        require(tokensSold > 0 && minTokensBought > 0 && minEthBought > 0, ZeroAmount());
        IExchange target = _exchangeOf(tokenAddr);
        uint256 eth = _takeTokens(tokensSold, msg.sender);
        require(eth >= minEthBought, TooLittleEth(eth, minEthBought));
        return target.ethToTokenTransferInput{value: eth}(minTokensBought, deadline, recipient);
    }

    function _tokenToTokenOutput(
        uint256 tokensBought,
        uint256 maxTokensSold,
        uint256 maxEthSold,
        uint256 deadline,
        address recipient,
        address tokenAddr
    ) private returns (uint256 tokensSold) {
        require(tokensBought > 0 && maxEthSold > 0, ZeroAmount());
        IExchange target = _exchangeOf(tokenAddr);
        uint256 eth = target.getEthToTokenOutputPrice(tokensBought);
        require(eth <= maxEthSold, TooMuchEth(eth, maxEthSold));
        tokensSold = _takeTokensFor(eth, maxTokensSold, msg.sender);
        target.ethToTokenTransferOutput{value: eth}(tokensBought, deadline, recipient);
    }

    function _takeTokens(uint256 tokens, address seller) private returns (uint256 eth) {
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        eth = ConstantProduct.output(tokens, tokenReserve, ethReserve);
        _finishSale(tokens, eth, seller, ethReserve, tokenReserve);
    }

    function _takeTokensFor(uint256 eth, uint256 maxTokens, address seller) private returns (uint256 tokens) {
        (uint256 ethReserve, uint256 tokenReserve) = getReserves();
        tokens = ConstantProduct.input(eth, tokenReserve, ethReserve);
        require(tokens <= maxTokens, TooManyTokens(tokens, maxTokens));
        _finishSale(tokens, eth, seller, ethReserve, tokenReserve);
    }

    function _finishSale(uint256 tokens, uint256 eth, address seller, uint256 ethReserve, uint256 tokenReserve)
        private
    {
        _setReserves(ethReserve - eth, tokenReserve + tokens);
        _collect(seller, tokens);
        emit EthPurchase(seller, tokens, eth);
    }

    /// @dev Only an exchange of the same factory, and not this one, is a target.
    function _exchangeOf(address tokenAddr) private view returns (IExchange) {
        address target = _factory.getExchange(tokenAddr);
        require(target != address(0) && target != address(this), UnknownExchange(tokenAddr));
        return IExchange(target);
    }

    /// @dev Refuses tokens that keep a fee: the reserves would be wrong.
    function _collect(address from, uint256 tokens) private {
        uint256 before = _token.balanceOf(address(this));
        _token.safeTransferFrom(from, address(this), tokens);
        uint256 received = _token.balanceOf(address(this)) - before;
        require(received == tokens, TransferFee(tokens, received));
    }

    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        require(paid, PaymentFailed());
    }
}
