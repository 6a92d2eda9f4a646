// Colours and small charts. Classes have the colours of Okabe and Ito; scales are ColorBrewer's,
// both safe for colour-blind eyes.

const CLASS_COLOURS = {
  TF: "#0072b2",
  RBP: "#d55e00",
  miRNA: "#009e73",
  chromatin: "#cc79a7",
  mask: "#8a929c",
};
const OTHER_COLOURS = ["#e69f00", "#56b4e9", "#b8a800"];

const FONT = getComputedStyle(document.body).fontFamily;

// Blue over white to red, white at zero.
const DIVERGING = [
  "#053061",
  "#2166ac",
  "#4393c3",
  "#92c5de",
  "#d1e5f0",
  "#f7f7f7",
  "#fddbc7",
  "#f4a582",
  "#d6604d",
  "#b2182b",
  "#67001f",
];
const SEQUENTIAL = [
  "#fcfbfd",
  "#efedf5",
  "#dadaeb",
  "#bcbddc",
  "#9e9ac8",
  "#807dba",
  "#6a51a3",
  "#54278f",
  "#3f007d",
];

class Scale {
  constructor(low, high, colours, unit) {
    Object.assign(this, { low, high, unit, beyond: [false, false] });
    const rgb = colours.map((colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)));
    this.table = Array.from({ length: 256 }, (_, i) => {
      const place = (i / 255) * (rgb.length - 1);
      const k = Math.min(Math.floor(place), rgb.length - 2);
      const mixed = rgb[k].map((from, j) =>
        Math.round(from + (rgb[k + 1][j] - from) * (place - k)),
      );
      return `rgb(${mixed.join(",")})`;
    });
  }

  // Centred at zero; one value in a hundred may lie beyond the ends.
  static diverging(values, unit) {
    const sizes = Float32Array.from(values, Math.abs).sort();
    const size = sizes.length ? sizes[Math.ceil(0.99 * (sizes.length - 1))] : 0;
    const limit = size > 0 ? Math.ceil(size / niceStep(size, 10)) * niceStep(size, 10) : 1;
    const scale = new Scale(-limit, limit, DIVERGING, unit);
    scale.beyond = [values.some((value) => value < -limit), values.some((value) => value > limit)];
    return scale;
  }

  static sequential(values, unit) {
    const low = values.length ? Math.floor(values.reduce((a, b) => Math.min(a, b))) : 0;
    const high = values.length ? Math.ceil(values.reduce((a, b) => Math.max(a, b))) : 1;
    return new Scale(low, Math.max(high, low + 1), SEQUENTIAL, unit);
  }

  colour(value) {
    const part = (value - this.low) / (this.high - this.low);
    return this.table[clamp(Math.round(255 * part), 0, 255)];
  }

  legend(title) {
    const width = 190;
    const steps = 64;
    const x = (i) => 8 + (i * width) / steps;
    const bar = Array.from({ length: steps }, (_, i) =>
      draw("rect", {
        x: x(i),
        y: 20,
        width: width / steps + 0.5,
        height: 11,
        fill: this.table[Math.round((255 * (i + 0.5)) / steps)],
      }),
    );
    const middle = (this.low + this.high) / 2;
    const digits = this.high - this.low < 0.1 ? 3 : this.high - this.low < 4 ? 2 : 1;
    const ends = [this.beyond[0] ? "≤ " : "", "", this.beyond[1] ? "≥ " : ""];
    const sign = this.low < 0 && this.high === -this.low ? signed : decimals;
    const ticks = [this.low, middle, this.high].map((value, i) =>
      draw(
        "text",
        {
          x: 8 + (i * width) / 2,
          y: 46,
          "text-anchor": ["start", "middle", "end"][i],
          class: "soft",
        },
        `${ends[i]}${sign(value, digits)}`,
      ),
    );
    return draw(
      "svg",
      {
        width: Math.max(width + 16, textWidth(title) + 12),
        height: 52,
        role: "img",
        "aria-label": `Colours from ${this.low} to ${this.high} ${this.unit}`,
      },
      draw("text", { x: 8, y: 13 }, title),
      ...bar,
      ...ticks,
    );
  }
}

// Horizontal bars from zero. items: { name, value, colour, tip }
function bars(host, items, { label, unit, print = signed, digits = 3, onPick }) {
  const line = 22;
  const width = Math.max(host.clientWidth, 300);
  const left = 8 + Math.max(40, ...items.map((item) => textWidth(item.name)));
  const low = Math.min(0, ...items.map((item) => item.value));
  const high = Math.max(0, ...items.map((item) => item.value));
  const room = 62;
  const from = left + (low < 0 ? room : 4);
  const to = width - (high > 0 ? room : 4);
  const x = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const rows = items.map((item, i) => {
    const middle = i * line + 15;
    const edge = x(item.value);
    const up = item.value >= 0;
    const row = draw(
      "g",
      { "data-tip": item.tip, class: onPick ? "pick" : "" },
      draw("rect", { x: 0, y: i * line, width, height: line, fill: "transparent" }),
      draw("text", { x: left - 6, y: middle, "text-anchor": "end" }, item.name),
      draw("rect", {
        x: Math.min(x(0), edge),
        y: i * line + 4,
        width: Math.max(Math.abs(edge - x(0)), 0.8),
        height: line - 8,
        fill: item.colour,
      }),
      draw(
        "text",
        { x: edge + (up ? 5 : -5), y: middle, "text-anchor": up ? "start" : "end", class: "soft" },
        print(item.value, digits),
      ),
    );
    if (onPick) row.addEventListener("click", () => onPick(item));
    return row;
  });
  const axis = draw("line", {
    x1: x(0),
    x2: x(0),
    y1: 0,
    y2: items.length * line,
    stroke: "#1b2430",
  });
  const height = items.length * line + 22;
  host.replaceChildren(
    draw(
      "svg",
      { width, height, role: "img", "aria-label": label },
      ...rows,
      axis,
      draw(
        "text",
        {
          x: low < 0 ? clamp(x(0), left + 60, width - 60) : x(0),
          y: height - 5,
          "text-anchor": low < 0 ? "middle" : "start",
          class: "soft",
        },
        unit,
      ),
    ),
  );
}

// What adds up to a prediction: floating bars from the reference on.
function waterfall(host, { reference, parts, prediction, unit, label }) {
  const line = 28;
  const width = Math.max(host.clientWidth, 300);
  let sum = reference;
  const rows = [
    { name: "Reference", from: 0, to: reference, colour: "#4a5563", text: signed(reference) },
  ];
  for (const part of parts) {
    rows.push({
      name: part.name,
      from: sum,
      to: sum + part.value,
      colour: part.colour,
      text: signed(part.value),
      tip: part.tip,
    });
    sum += part.value;
  }
  rows.push({
    name: "Prediction",
    from: 0,
    to: prediction,
    colour: "#1b2430",
    text: signed(prediction),
    strong: true,
  });
  const left = 12 + Math.max(...rows.map((row) => textWidth(row.name)));
  const ends = rows.flatMap((row) => [row.from, row.to]);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  const x = (value) => left + 4 + ((value - low) / (high - low || 1)) * (width - left - 76);
  const marks = rows.flatMap((row, i) => {
    const [a, b] = [x(row.from), x(row.to)].sort((p, q) => p - q);
    const y = i * line;
    const next =
      i < rows.length - 1
        ? [
            draw("line", {
              x1: x(row.to),
              x2: x(row.to),
              y1: y + 5,
              y2: y + line + line - 5,
              stroke: "#8a929c",
              "stroke-dasharray": "2 2",
            }),
          ]
        : [];
    return [
      ...next,
      draw(
        "g",
        { "data-tip": row.tip ?? `${row.name}: ${row.text} ${unit}` },
        draw("rect", { x: 0, y, width, height: line, fill: "transparent" }),
        draw(
          "text",
          { x: left - 6, y: y + 18, "text-anchor": "end", class: row.strong ? "strong" : "" },
          row.name,
        ),
        draw("rect", {
          x: a,
          y: y + 5,
          width: Math.max(b - a, 1),
          height: line - 10,
          fill: row.colour,
        }),
        draw("text", { x: b + 6, y: y + 18, class: row.strong ? "strong" : "" }, row.text),
      ),
    ];
  });
  const zero = draw("line", {
    x1: x(0),
    x2: x(0),
    y1: 0,
    y2: rows.length * line,
    stroke: "#1b2430",
  });
  const height = rows.length * line + 22;
  host.replaceChildren(
    draw(
      "svg",
      { width, height, role: "img", "aria-label": label },
      zero,
      ...marks,
      draw(
        "text",
        {
          x: clamp(x(0), left + 50, width - 60),
          y: height - 5,
          "text-anchor": "middle",
          class: "soft",
        },
        unit,
      ),
    ),
  );
}

const textWidth = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, size = 12.5, weight = 400) => {
    context.font = `${weight} ${size}px ${FONT}`;
    return context.measureText(text).width;
  };
})();
