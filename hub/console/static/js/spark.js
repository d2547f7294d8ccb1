import { h } from "./vdom.js";

/** A small line without axes, for tiles; its meaning stands in words beside it. */
export function spark(points, tone) {
  const recent = points.slice(-48);
  if (recent.length < 2) return null;
  const values = recent.map((p) => p[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const d = values
    .map((v, i) => {
      const x = (i / (values.length - 1)) * 100;
      const y = 27 - ((v - low) / (high - low || 1)) * 24;
      return `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
  return h(
    "svg",
    { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path", { class: `area tone-${tone}`, d: `${d}V30H0Z` }),
    h("path", { class: `line tone-${tone}`, d, "vector-effect": "non-scaling-stroke" }),
  );
}
