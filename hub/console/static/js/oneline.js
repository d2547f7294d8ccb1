// <og-oneline>: the one-line diagram of a feeder: utility, transformer, busbar, homes.
//
// Model: {group, devices}. Rules. The feeder's power is metered in clear, so its flow moves with direction and size. A
// home's telemetry is masked: its branch shows a seal, whether the meter is heard, and a pulse for each acknowledged
// message. The pulse says "a sealed message arrived", nothing about how much energy flows.

import { Drawing } from "./drawing.js";
import { groupName, power } from "./format.js";
import { t } from "./i18n.js";
import { h, patch } from "./vdom.js";

const NARROW = 620; // px; below it the feeder stands above the bus
const FEEDER_WIDTH = 216; // px
const CELL = 92; // px, the least width of a home
const ROW = 128; // px between rows of homes
const FLOW_STEPS = [1, 500, 3000, 10000]; // W: thresholds of the four speeds of the moving line

const HOUSE = "M-15 2 0 -11 15 2V18H-15Z";

class OneLine extends Drawing {
  draw() {
    const width = Math.floor(this.clientWidth);
    if (!this.data || width < 120) return;
    const { group, devices } = this.data;
    const narrow = width < NARROW;
    const left = narrow ? 8 : FEEDER_WIDTH;
    const perRow = Math.max(2, Math.floor((width - left - 8) / CELL));
    const rows = Math.max(1, Math.ceil(devices.length / perRow));
    const columns = Math.min(perRow, Math.max(1, Math.ceil(devices.length / rows)));
    const top = narrow ? 128 : 34;
    const height = top + rows * ROW - (devices.some((d) => !d.online) ? 14 : 30);
    patch(
      this,
      h(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(group, devices) },
        feeder(group, narrow, top, left),
        rows > 1 && h("path", { class: "wire", d: `M${left} ${top}V${top + (rows - 1) * ROW}` }),
        Array.from({ length: rows }, (_, row) => {
          const y = top + row * ROW;
          const own = devices.slice(row * columns, (row + 1) * columns);
          const cell = (width - left - 8) / columns;
          return [
            h("path", { key: `bus${row}`, class: "bus", d: `M${left} ${y}H${width - 8}` }),
            own.map((device, i) => home(device, left + cell * (i + 0.5), y)),
          ];
        }),
      ),
    );
  }
}

function describe(group, devices) {
  const down = devices.filter((d) => !d.online).map((d) => d.name);
  return [
    t("one_line_label", { name: group.name || groupName(group.id), n: devices.length }),
    `${t("feeder_import")} ${power(group.feeder_import_w)}`,
    `${t("feeder_export")} ${power(group.feeder_export_w)}`,
    down.length > 0 ? t("offline_names", { names: down.join(", ") }) : t("all_online"),
  ].join("; ");
}

function speedOf(watt) {
  return FLOW_STEPS.filter((step) => watt >= step).length;
}

function feeder(group, narrow, top, left) {
  const known = typeof group.feeder_import_w === "number" || typeof group.feeder_export_w === "number";
  const net = (group.feeder_export_w || 0) - (group.feeder_import_w || 0);
  const direction = net > 0 ? "export" : "import";
  const speed = speedOf(Math.abs(net));
  const wire = narrow ? `M40 62V${top}` : `M52 ${top}H${left}`;
  const at = narrow
    ? { x: 40, y: 40, tx: 40, ty: 92, lx: 72, ly: 36 }
    : { x: 30, y: top, tx: 104, ty: top, lx: 12, ly: top + 46 };
  const words = !known ? t("feeder_unknown") : net === 0 ? t("balanced") : t(net > 0 ? "to_utility" : "from_utility");
  return h(
    "g",
    { key: "feeder", class: `feeder dir-${direction}` },
    h("path", { class: "wire", d: wire }),
    known &&
      speed > 0 &&
      h("path", { class: `flow tone-${direction} speed-${speed} ${net > 0 ? "back" : "forth"}`, d: wire }),
    h(
      "g",
      { transform: `translate(${at.x} ${at.y})`, class: "pylon" },
      h("circle", { r: 21 }),
      h("path", { d: "M-8 13 0 -13 8 13M-5 3H5M-9 -4H9M-6.6 8.5 5 3M6.6 8.5-5 3M0 -13V-4" }),
    ),
    h(
      "g",
      { transform: `translate(${at.tx} ${at.ty})`, class: "transformer" },
      ["plate", "coil"].map((part) =>
        [-6, 6].map((off) =>
          h("circle", { class: part, cx: narrow ? 0 : off, cy: narrow ? off : 0, r: part === "coil" ? 10 : 11 }),
        ),
      ),
    ),
    h("text", { class: "feeder-figure", x: at.lx, y: at.ly }, known ? power(Math.abs(net)) : "–"),
    h("text", { class: "feeder-words", x: at.lx, y: at.ly + 19 }, words),
    h("text", { class: "feeder-words faint", x: at.lx, y: at.ly + 36 }, t("in_clear")),
  );
}

function home(device, x, y) {
  const makes = device.kind === "prosumer" || device.kind === "producer";
  const state = device.online ? "online" : "offline";
  return h(
    "g",
    { key: device.name, transform: `translate(${x.toFixed(1)} ${y})`, class: `home ${state}` },
    h("title", {}, `${device.name}: ${t(state)}`),
    h("path", { class: "branch", d: "M0 0V40" }),
    device.online && h("circle", { key: `p${device.acked}`, class: "pulse", r: 4, cy: 40 }),
    h(
      "g",
      { transform: "translate(0 21)", class: "seal" },
      h("rect", { x: -8, y: -8, width: 16, height: 16, rx: 4 }),
      h("path", { d: "M-3 -0.5V-2.5a3 3 0 0 1 6 0V-0.5M-4 -0.5H4V4.5H-4Z" }),
    ),
    h(
      "g",
      { transform: "translate(0 53)", class: "house" },
      h("path", { d: HOUSE }),
      makes && h("path", { class: "solar", d: "M3 -8.4 12.5 -0.2 9.5 3 0.2 -5Z" }),
      device.online
        ? h("path", { class: "tick", d: "M-5 8.5-1.5 12 5 4.5" })
        : h("path", { class: "crossed", d: "M-4.5 4 4.5 13M4.5 4-4.5 13" }),
    ),
    h("text", { class: "home-name", x: 0, y: 89, "text-anchor": "middle" }, device.name),
    !device.online && h("text", { class: "home-note", x: 0, y: 105, "text-anchor": "middle" }, t("offline")),
  );
}

customElements.define("og-oneline", OneLine);
