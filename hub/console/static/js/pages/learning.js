// Learning: of each model that the chain agrees on the loss per round, who took part, who was refused and why; the vouched
// forecast; the hub's own forecasts beside what came. The address names the model that is shown, the first one if none.

import { count, groupName, isNumber, loss, NONE, percent } from "../format.js";
import { lastRound } from "../health.js";
import { t } from "../i18n.js";
import { forecastModel, lossModel, outlookModel } from "../models.js";
import { card, chart, figure, figures, hex, nothingYet, notRunning, table } from "../parts.js";
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
      ? [lossCard(value), roundCard(value), rejectedCard(value.rejected || [])]
      : card(t("page_learning"), { span: 12, key: "none" }, notRunning(t("absent_learning"))),
    forecastCard(store.sections.inference, zone),
    (store.sections.forecast?.microgrids || []).map((row) => outlookCard(row, zone)),
  );
}

const QUANTITIES = { net_energy: "net_energy", import_energy: "import_energy", export_energy: "export_energy" };

function choice(models, shown) {
  return h(
    "nav",
    { class: "choice", key: "choice", "aria-label": t("models") },
    models.map((model) =>
      h(
        "a",
        {
          key: model.model_id,
          href: `#/learning?model=${encodeURIComponent(model.model_id)}`,
          title: model.model_id,
          "aria-current": model === shown ? "true" : null,
        },
        Object.hasOwn(QUANTITIES, model.quantity) ? t(QUANTITIES[model.quantity]) : model.quantity,
      ),
    ),
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
  const { done, took } = lastRound(l);
  const share = l.registered > 0 && isNumber(took) ? took / l.registered : null;
  return card(
    t("round_n", { n: count(done) }),
    { span: 4, key: "round" },
    h(
      "div",
      { class: "ring-row" },
      share !== null && ring(share, t("took_part", { n: took, of: l.registered })),
      figures(
        figure(t("participants"), `${count(took)} / ${count(l.registered)}`),
        figure(t("rejected"), count((l.rejected || []).length)),
      ),
    ),
    figures(
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

const ADDRESS = /^0x[0-9a-f]{40}$/i;

function rejectedCard(rows) {
  return card(
    t("rejected_updates"),
    { span: 12, key: "rejected", note: t("rejected_note") },
    table(
      t("rejected_updates"),
      [
        { label: t("device"), cell: (r) => (ADDRESS.test(r.device) ? hex(r.device) : (r.device ?? NONE)), head: true },
        { label: t("reason"), cell: (r) => r.reason ?? NONE },
      ],
      rows,
      { empty: t("nobody_rejected"), emptyIcon: "ok", key: "rejected" },
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
  return card(
    t("outlook_of", { id: name }),
    { span: 12, key: `outlook-${name}`, note: t("outlook_note") },
    chart(outlookModel(row, zone, `outlook-${name}`)),
    row.made_by && figures(figure(t("made_by"), t(MADE_BY[row.made_by])), figure(t("model_hash"), hex(row.model_hash))),
  );
}
