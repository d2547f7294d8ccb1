// Learning: of each model that the chain agrees on the open round as it goes, the closed ones, the loss per round, who took
// part, who was refused and why, what privacy is left; the vouched forecast and the hub's own, each beside what came. The address names the model that is shown, the first one if none.

import { count, decimal, groupName, isNumber, loss, NONE, percent } from "../format.js";
import { lastRound } from "../health.js";
import { t, word } from "../i18n.js";
import { icon } from "../icons.js";
import { forecastModel, lossModel, outlookModel } from "../models.js";
import { card, chart, figure, figures, hex, nothingYet, notRunning, status, table } from "../parts.js";
import { reason, seats } from "../round.js";
import { hubName, isHidden, isLearntByHubs, phaseWords, roundModel, timeLeft } from "../steps.js";
import { store } from "../store.js";
import { h } from "../vdom.js";

export function learning(zone) {
  const first = store.sections.learning;
  const models = first ? [first, ...(first.others || [])] : [];
  const asked = new URLSearchParams(location.hash.split("?")[1]).get("model");
  const value = models.find((model) => model.model_id === asked) || first;
  return h(
    "div",
    { class: "cards" },
    models.length > 1 && choice(models, value),
    value
      ? [
          openCard(value),
          h("div", { class: "column span-8", key: "wide" }, lastCard(value), lossCard(value)),
          h("div", { class: "column span-4", key: "narrow" }, privacyCard(value), roundCard(value)),
        ]
      : card(t("page_learning"), { span: 12, key: "none" }, notRunning(t("absent_learning"))),
    (store.sections.forecast?.microgrids || []).map((row) => outlookCard(row, zone)),
    forecastCard(store.sections.inference, zone),
    value && [historyCard(value), rejectedCard(value.rejected || []), leadersCard(value.wrong_aggregates || [])],
  );
}

const QUANTITIES = { net_energy: "net_energy", import_energy: "import_energy", export_energy: "export_energy", price: "price" };

function quantityName(model) {
  return Object.hasOwn(QUANTITIES, model.quantity) ? t(QUANTITIES[model.quantity]) : (model.quantity ?? "");
}

function choice(models, shown) {
  return h(
    "nav",
    { class: "choice", key: "choice", "aria-label": t("models") },
    h("span", { class: "choice-label", "aria-hidden": "true" }, t("models")),
    models.map((model) =>
      h(
        "a",
        {
          key: model.model_id,
          href: `#/learning?model=${encodeURIComponent(model.model_id)}`,
          title: model.model_id,
          "aria-current": model === shown ? "true" : null,
        },
        model === shown && icon("ok"),
        quantityName(model),
      ),
    ),
  );
}

/** The round that is open: what happens now, how far it is, and every device's part in it. */
function openCard(l) {
  const drawn = roundModel(l);
  const title = t("open_round", { n: count(l.round), model: quantityName(l) });
  const words = phaseWords(l);
  return card(
    title,
    { span: 12, key: "open", aside: drawn && timeLeft(l) },
    words ? h("p", { class: "say" }, words) : nothingYet(t("no_progress_told")),
    drawn && h("og-round", { ".model": drawn, key: "line" }),
    l.open?.devices?.length > 0 && [
      h("h3", { key: "who", class: "sub" }, t(isLearntByHubs(l) ? "hubs_now" : "who_now")),
      seats(l.open.devices, false),
      h("p", { key: "names", class: "note" }, namesNote(l)),
    ],
  );
}

function namesNote(l) {
  const shown = l.open.devices.length;
  const some = l.registered > shown ? `${t("seats_some", { n: count(shown), of: count(l.registered) })} ` : "";
  return some + t("names_note", { n: count(l.open.next_epoch_round) });
}

function lastCard(l) {
  const last = (l.closed || []).at(-1);
  if (!last) return null;
  return card(
    t("last_round", { n: count(last.round) }),
    { span: 8, key: "last" },
    h("p", { class: `say is-${OUTCOME_LEVELS[last.outcome] || "bad"}` }, icon(OUTCOME_LEVELS[last.outcome] || "bad"), outcome(last)),
    figures(
      figure(t("committed"), count(last.participants)),
      figure(t("counted"), count(last.included)),
      figure(t("rejected"), count(last.rejected)),
      figure(t("ballots"), `${count(last.ballots)} / ${count(last.committee)}`, {
        detail: last.worse > 0 ? t("ballots_worse", { n: count(last.worse) }) : null,
      }),
    ),
    l.last?.round === last.round && seats(l.last.devices, true),
  );
}

const OUTCOME_LEVELS = { learnt: "ok", learnt_unjudged: "ok", refused: "warn", budget_spent: "off" };

function outcome(record) {
  const unasked = record.outcome === "learnt_unjudged" && record.committee === 0;
  return unasked ? t("learnt_without_committee") : word("outcome", record.outcome);
}

function privacyCard(l) {
  const budget = l.epsilon_budget_micro;
  const noisy = l.privacy === "secagg_dp" && budget > 0;
  return card(
    t("privacy_mode"),
    { span: 4, key: "mode" },
    h(
      "p",
      { class: `say is-${isHidden(l) ? "ok" : "public"}` },
      icon(isHidden(l) ? "lock" : "eye"),
      word("mode", l.privacy ?? "none"),
    ),
    h("p", { class: "note" }, isLearntByHubs(l) ? t("hubs_see_all") : word("about", l.privacy ?? "none")),
    noisy && [
      budgetBar(l.epsilon_micro, budget),
      figures(
        figure(t("epsilon_spent"), epsilon(l.epsilon_micro), { detail: t("of_budget", { budget: epsilon(budget) }) }),
        figure(t("rounds_charged"), count(l.charged_rounds)),
      ),
      h("p", { class: "note" }, t("epsilon_note", { exponent: count(l.delta_exponent) })),
    ],
  );
}

function epsilon(micro) {
  return isNumber(micro) ? decimal(micro / 1e6, 2) : NONE;
}

function budgetBar(spent, budget) {
  const share = Math.max(0, Math.min(1, spent / budget));
  const label = `${t("epsilon_spent")}: ${epsilon(spent)} ${t("of_budget", { budget: epsilon(budget) })}`;
  return h(
    "div",
    { class: "budget", role: "img", "aria-label": label },
    h("i", { style: { width: `${(share * 100).toFixed(1)}%` } }),
  );
}

function lossCard(l) {
  return card(
    t("loss_per_round"),
    { span: 8, key: "loss", note: t("loss_note") },
    chart({ ...lossModel(l, "learning-loss"), height: 240 }),
  );
}

function roundCard(l) {
  const change =
    isNumber(l.loss_first_micro) && l.loss_first_micro > 0 && isNumber(l.loss_last_micro)
      ? (l.loss_last_micro - l.loss_first_micro) / l.loss_first_micro
      : null;
  const { took } = lastRound(l);
  const share = l.registered > 0 && isNumber(took) ? took / l.registered : null;
  return card(
    t("model_so_far"),
    { span: 4, key: "round" },
    h(
      "div",
      { class: "ring-row" },
      share !== null && ring(share, t("took_part", { n: took, of: l.registered })),
      figures(figure(t("participants"), `${count(took)} / ${count(l.registered)}`)),
    ),
    figures(
      figure(t("rounds_done"), count(l.completed ?? l.round)),
      figure(t("rounds_refused"), count(l.refused)),
      figure(t("rounds_void"), count(l.voided)),
      figure(t("loss_first"), loss(l.loss_first_micro)),
      figure(t("loss_last"), loss(l.loss_last_micro), {
        detail: change === null ? null : `${change <= 0 ? "↓" : "↑"} ${percent(Math.abs(change), 1)}`,
      }),
      figure(t("model_hash"), hex(l.model_hash)),
    ),
  );
}

function ring(share, label) {
  const around = 2 * Math.PI * 30;
  return h(
    "svg",
    { class: "ring", viewBox: "0 0 76 76", width: 76, height: 76, role: "img", "aria-label": label },
    h("circle", { class: "ring-track", cx: 38, cy: 38, r: 30 }),
    h("circle", {
      class: "ring-value",
      cx: 38,
      cy: 38,
      r: 30,
      transform: "rotate(-90 38 38)",
      "stroke-dasharray": `${(share * around).toFixed(1)} ${around.toFixed(1)}`,
    }),
    h("text", { x: 38, y: 43, "text-anchor": "middle" }, percent(share)),
  );
}

function historyCard(l) {
  const rows = [...(l.closed || [])].reverse();
  return card(
    t("closed_rounds"),
    { span: 12, key: "history", className: "rounds", note: t("closed_note") },
    table(
      t("closed_rounds"),
      [
        { label: t("round"), cell: (r) => count(r.round), head: true },
        { label: t("outcome"), cell: (r) => status(OUTCOME_LEVELS[r.outcome] || "bad", outcome(r)) },
        { label: t("committed"), cell: (r) => count(r.participants), align: "end" },
        { label: t("counted"), cell: (r) => count(r.included), align: "end" },
        { label: t("rejected"), cell: (r) => count(r.rejected), align: "end" },
        { label: t("shortened"), cell: (r) => count(r.capped), align: "end" },
        { label: t("ballots"), cell: (r) => `${count(r.ballots)} / ${count(r.committee)}`, align: "end" },
        { label: t("found_worse"), cell: (r) => count(r.worse), align: "end" },
        { label: t("attempts"), cell: (r) => count(r.attempts), align: "end" },
        l.privacy === "secagg_dp" && { label: t("epsilon"), cell: (r) => epsilon(r.epsilon_micro), align: "end" },
      ].filter(Boolean),
      rows,
      { empty: t("no_round_yet"), key: "closed", rowKey: (r) => r.round },
    ),
  );
}

const NAME = /^0x([0-9a-f]{40}|[0-9a-f]{64})$/i; // an address or a pseudonym

function rejectedCard(rows) {
  return card(
    t("rejected_updates"),
    { span: 7, key: "rejected", note: t("rejected_note") },
    table(
      t("rejected_updates"),
      [
        { label: t("device"), cell: (r) => (NAME.test(r.device) ? hex(r.device) : (r.device ?? NONE)), head: true },
        { label: t("round"), cell: (r) => (isNumber(r.round) ? count(r.round) : NONE), align: "end" },
        { label: t("reason"), cell: (r) => (r.reason ? reason(r.reason) : NONE) },
      ],
      [...rows].reverse(),
      { empty: t("nobody_rejected"), emptyIcon: "ok", key: "rejected" },
    ),
  );
}

function leadersCard(rows) {
  return card(
    t("wrong_leaders"),
    { span: 5, key: "leaders", note: t("wrong_leaders_note") },
    table(
      t("wrong_leaders"),
      [
        { label: t("hub"), cell: (r) => h("span", { title: r.validator }, hubName(r.validator)), head: true },
        { label: t("round"), cell: (r) => count(r.round), align: "end" },
        { label: t("attempt"), cell: (r) => count(r.attempt + 1), align: "end" },
      ],
      [...rows].reverse(),
      { empty: t("no_wrong_leader"), emptyIcon: "ok", key: "leaders" },
    ),
  );
}

function forecastCard(inference, zone) {
  const last = inference?.last;
  return card(
    t("forecast"),
    {
      span: 12,
      key: "forecast",
      note: last ? t("forecast_note", { id: groupName(last.microgrid) }) : null,
      aside: inference && t("answered_n", { n: count(inference.answered), of: count(inference.requests) }),
    },
    !inference
      ? notRunning(t("absent_inference"))
      : !last
        ? nothingYet(t("no_answer_yet"))
        : [
            chart(forecastModel(last, zone, "forecast")),
            figures(
              figure(t("request"), String(last.id ?? NONE)),
              figure(t("microgrid"), groupName(last.microgrid)),
              figure(t("as_of_slot"), String(last.as_of_slot ?? NONE)),
              figure(t("model_hash"), hex(last.model_hash)),
            ),
          ],
  );
}

const MADE_BY = { "hub model": "by_hub_model", "agreed chain model": "by_chain_model" };

function outlookCard(row, zone) {
  const name = groupName(row.id);
  const model = outlookModel(row, zone, `outlook-${name}`);
  return card(
    t("outlook_of", { id: name }),
    { span: 12, key: `outlook-${name}`, note: t("outlook_note") },
    model.series.some((s) => s.points.length > 0) ? chart(model) : nothingYet(t("no_outlook_yet")),
    row.made_by && figures(figure(t("made_by"), t(MADE_BY[row.made_by])), figure(t("model_hash"), hex(row.model_hash))),
  );
}
