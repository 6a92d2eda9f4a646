// Where on promoter and RNA the scores of a gene come from.

// Regulators as rows: name, score, and their bins along promoter and RNA.
function places({ top, profile, gene, unit, output }) {
  const host = document.getElementById("places");
  if (!top.length) {
    host.replaceChildren(
      make("p", { className: "empty" }, `No regulator has sites on this ${data.level}.`),
    );
    return;
  }
  if (!data.positions) {
    bars(
      host,
      top.map((row) => ({
        name: row.name,
        value: row.score,
        colour: row.of.colour,
        tip: `${row.name} (${row.of.name}): ${signed(row.score, 4)} ${unit}`,
      })),
      { label: "Strongest regulators", unit },
    );
    return;
  }
  const width = Math.max(host.clientWidth, 720);
  const line = 22;
  const head = 46;
  const band = 50;
  const names = 10 + Math.max(96, ...top.map((row) => textWidth(row.name)));
  const barWidth = Math.round(width * 0.19);
  const gap = 22;
  const panel = (width - names - barWidth - 2 * gap - 8) / 2;
  const starts = [names + barWidth + gap, names + barWidth + 2 * gap + panel];
  const bins = profile.map((values) => values.length);
  const size = (side) => panel / bins[side];
  const x = (side, bin) => starts[side] + bin * size(side);
  const scale = Scale.diverging(
    top.flatMap((row) => row.places.map((place) => place.score)),
    unit,
  );
  const where = (onRna, bin) => {
    const [from, to] = edges(onRna, bin, gene);
    return onRna
      ? `RNA, nt ${from + 1} to ${to}`
      : `promoter, ${signed(from, 0)} to ${signed(to, 0)} bp`;
  };
  const height = head + band + top.length * line + 8;
  const root = draw("svg", {
    width,
    height,
    role: "img",
    "aria-label": `${gene.name}, ${output.title}: strongest regulators and their positions`,
  });
  const text = (content, attributes) => root.append(draw("text", attributes, content));

  // Scores, as bars.
  const extent = Math.max(...top.map((row) => Math.abs(row.score))) || 1;
  const [low, high] = [
    Math.min(0, ...top.map((row) => row.score)),
    Math.max(0, ...top.map((row) => row.score)),
  ];
  const room = 52;
  const barFrom = names + (low < 0 ? room : 2);
  const barTo = names + barWidth - (high > 0 ? room : 2);
  const bar = (value) => barFrom + ((value - low) / (high - low || extent)) * (barTo - barFrom);
  text("Score", { x: names, y: 14, class: "strong" });
  text(unit, { x: names, y: 31, class: "soft" });
  text("Promoter", { x: starts[0], y: 14, class: "strong" });
  text("RNA", { x: starts[1], y: 14, class: "strong" });
  text(`spliced, ${gene.rnaLength.toLocaleString("en")} nt, 5′ to 3′`, {
    x: starts[1] + textWidth("RNA", 12.5, 600) + 8,
    y: 14,
    class: "soft",
  });
  text("bp from the start site", {
    x: starts[0] + textWidth("Promoter", 12.5, 600) + 8,
    y: 14,
    class: "soft",
  });

  // Axes.
  const tick = (side, at, label, anchor = "middle", strong = false) => {
    const px = starts[side] + (at / (bins[side] * data.bin)) * panel;
    root.append(
      draw("line", {
        x1: px,
        x2: px,
        y1: head - 9,
        y2: height - 8,
        stroke: strong ? "#1b2430" : "#d9dfe6",
        "stroke-dasharray": strong ? "3 2" : "none",
      }),
    );
    text(label, { x: px, y: head - 13, "text-anchor": anchor, class: strong ? "strong" : "soft" });
  };
  for (const side of [0, 1]) {
    root.append(
      draw("rect", {
        x: starts[side],
        y: head - 8,
        width: panel,
        height: height - head,
        fill: "#f5f7f9",
      }),
    );
  }
  tick(0, 0, signed(-data.upstream, 0), "start");
  if (data.upstream >= 1000) tick(0, data.upstream / 2, signed(-data.upstream / 2, 0));
  tick(0, data.upstream, "TSS", "middle", true);
  tick(0, data.upstream + data.downstream, signed(data.downstream, 0), "end");
  const length = bins[1] * data.bin;
  const stride = niceStep(Math.max(length, data.bin), 4);
  for (let at = 0; at <= length - stride / 2; at += stride)
    tick(1, at, at.toLocaleString("en"), at ? "middle" : "start");

  // All regulators together, as a profile.
  const peak = Math.max(1e-9, ...profile.flat().map(Math.abs));
  const middle = head + band / 2 - 4;
  text("All regulators", { x: names - 8, y: middle + 4, "text-anchor": "end", class: "strong" });
  text(`± ${decimals(peak, 3)} per bin`, { x: names + 4, y: middle + 4, class: "soft" });
  for (const side of [0, 1]) {
    profile[side].forEach((value, bin) => {
      const tall = (Math.abs(value) / peak) * (band / 2 - 5);
      root.append(
        draw(
          "g",
          { "data-tip": `All regulators, ${where(side === 1, bin)}: ${signed(value, 4)} ${unit}` },
          draw("rect", {
            x: x(side, bin),
            y: head - 6,
            width: size(side),
            height: band - 6,
            fill: "transparent",
          }),
          draw("rect", {
            x: x(side, bin),
            y: value > 0 ? middle - tall : middle,
            width: Math.max(size(side) - 0.5, 0.5),
            height: tall,
            fill: value > 0 ? "#b2182b" : "#2166ac",
          }),
        ),
      );
    });
    root.append(
      draw("line", {
        x1: starts[side],
        x2: starts[side] + panel,
        y1: middle,
        y2: middle,
        stroke: "#566273",
        "stroke-width": 0.7,
      }),
    );
  }

  top.forEach((row, i) => {
    const y = head + band + i * line;
    const edge = bar(row.score);
    root.append(
      draw(
        "g",
        { "data-tip": `${row.name} (${row.of.name}): ${signed(row.score, 4)} ${unit}` },
        draw("rect", { x: 0, y, width: names + barWidth, height: line, fill: "transparent" }),
        draw("text", { x: names - 8, y: y + 15, "text-anchor": "end" }, row.name),
        draw("rect", {
          x: Math.min(bar(0), edge),
          y: y + 4,
          width: Math.max(Math.abs(edge - bar(0)), 0.8),
          height: line - 8,
          fill: row.of.colour,
        }),
        draw(
          "text",
          {
            x: edge + (row.score < 0 ? -5 : 5),
            y: y + 15,
            "text-anchor": row.score < 0 ? "end" : "start",
            class: "soft",
          },
          signed(row.score),
        ),
      ),
    );
    for (const { onRna, bin, score } of row.places) {
      const side = onRna ? 1 : 0;
      root.append(
        draw("rect", {
          x: x(side, bin),
          y: y + 3,
          width: Math.max(size(side) - 0.5, 2.5),
          height: line - 6,
          fill: scale.colour(score),
          stroke: "#8a929c",
          "stroke-width": 0.5,
          "data-tip": `${row.name}, ${where(onRna, bin)}: ${signed(score, 4)} ${unit}`,
        }),
      );
    }
  });
  root.append(
    draw("line", { x1: bar(0), x2: bar(0), y1: head + band, y2: height - 8, stroke: "#1b2430" }),
  );
  const shown = new Set(top.map((row) => row.of));
  const keys = classes.filter((of) => shown.has(of)).map(classMark);
  host.replaceChildren(
    root,
    make(
      "div",
      { className: "legends" },
      scale.legend(`score of a ${data.bin}-base bin, ${unit}`),
      make("p", { className: "small" }, "Bars: ", ...keys.flatMap((key) => [key, "\u2002"])),
    ),
  );
}
