// Market: the price of each pool inside its collar, reserves, the energy ledger and the last trades.

import { count, energy, groupName, isNumber, NONE, peth, price, simSeconds, timeOfDay } from "../format.js";
import { collarNote, collarRatio, hasPrice } from "../health.js";
import { t, word } from "../i18n.js";
import { icon } from "../icons.js";
import { priceModel } from "../models.js";
import {
  bars,
  card,
  chart,
  figure,
  figures,
  hex,
  meterBar,
  nothingYet,
  notRunning,
  split,
  status,
  table,
} from "../parts.js";
import { store } from "../store.js";
import { h } from "../vdom.js";

export function market(zone) {
  const value = store.sections.market;
  if (!value) return card(t("page_market"), { span: 12 }, notRunning(t("absent_market")));
  const pools = value.microgrids || [];
  return h(
    "div",
    { class: "cards" },
    pools.length === 0 && card(t("pools"), { span: 12 }, nothingYet(t("no_pool_yet"))),
    pools.map((pool) => poolCard(pool, zone, pools.length > 1 ? 6 : 12)),
    ledgerCard(value.energy_wh || {}),
    tradesCard(value, zone),
  );
}

function poolCard(pool, zone, span) {
  const ratio = collarRatio(pool);
  const inside = ratio !== null && ratio >= 0 && ratio <= 1;
  return card(
    t("pool_of", { id: groupName(pool.id) }),
    {
      span,
      key: `p-${pool.id}`,
      aside: ratio === null ? null : status(inside ? "ok" : "warn", t(inside ? "in_collar" : "out_collar")),
    },
    h(
      "div",
      { class: "price-now" },
      h("p", { class: "hero" }, hasPrice(pool) ? split(price(pool.price_wei_per_wh)) : NONE),
      ratio !== null &&
        h(
          "div",
          { class: "collar" },
          meterBar(ratio, collarNote(pool)),
          h(
            "div",
            { class: "collar-ends" },
            h("span", {}, t("feed_in"), h("b", {}, price(pool.feed_in_wei_per_wh))),
            h("span", {}, t("retail"), h("b", {}, price(pool.retail_wei_per_wh))),
          ),
        ),
    ),
    chart(priceModel(pool, zone, `market-${pool.id}`)),
    figures(
      figure(t("reserve_peth"), peth(pool.reserve_peth_wei)),
      figure(t("reserve_energy"), energy(pool.reserve_wh)),
      figure(t("token"), hex(pool.token)),
      figure(t("exchange"), hex(pool.exchange)),
    ),
  );
}

function ledgerCard(e) {
  const numbers = [e.minted, e.burned, e.redeemed, e.expired, e.outstanding];
  const known = numbers.every(isNumber);
  const balanced = known && e.minted - e.burned - e.expired - e.redeemed === e.outstanding;
  const part = (key, tone) => ({ key, label: t(key), tone, value: e[key], text: energy(e[key]) });
  return card(
    t("ledger"),
    {
      span: 5,
      key: "ledger",
      className: "short",
      note: t("ledger_note"),
      aside: known && status(balanced ? "ok" : "bad", t(balanced ? "balanced_books" : "unbalanced_books")),
    },
    bars([
      part("minted", "export"),
      part("sold", "export"),
      part("bought", "import"),
      part("burned", "import"),
      part("redeemed", "price"),
      part("expired", "off"),
      part("outstanding", "loss"),
    ]),
  );
}

const SHOWN_TRADES = 16;
const FIRST_SLOT = 1_000_000; // a smaller t is a block number: slot indices have passed it in 1998

function whenOf(trade) {
  return trade.t ?? trade.block ?? 0;
}

/** When a trade was: a simulated time, or the block that holds it. */
function when(trade, zone) {
  if (!isNumber(whenOf(trade)) || whenOf(trade) === 0) return NONE;
  if (trade.t === undefined || trade.t < FIRST_SLOT) return t("in_block", { n: count(whenOf(trade)) });
  return timeOfDay(simSeconds(trade.t), zone);
}

const TRADE_ICONS = { buy: "buy", sell: "sell", "tie-line": "tie" };

function tradesCard(value, zone) {
  const rows = [...(value.last_trades || [])]
    .reverse()
    .sort((a, b) => whenOf(b) - whenOf(a))
    .slice(0, SHOWN_TRADES);
  return card(
    t("last_trades"),
    { span: 7, key: "trades", aside: t("swaps_n", { n: count(value.swaps) }), note: t("trades_note") },
    table(
      t("last_trades"),
      [
        { label: t("time"), cell: (r) => when(r, zone), head: true },
        {
          label: t("kind"),
          cell: (r) => h("span", { class: "with-icon" }, icon(TRADE_ICONS[r.kind] || "info"), word("trade", r.kind)),
        },
        { label: t("microgrid"), cell: (r) => groupName(r.microgrid) },
        { label: t("amount"), cell: (r) => energy(r.amount_wh), align: "end" },
        { label: t("paid"), cell: (r) => peth(r.peth_wei), align: "end" },
      ],
      rows,
      {
        key: "trades",
        empty: t("no_trades_yet"),
        rowKey: (r, i) => `${whenOf(r)}-${r.kind}-${r.microgrid}-${r.amount_wh}-${r.peth_wei}-${i}`,
      },
    ),
  );
}
