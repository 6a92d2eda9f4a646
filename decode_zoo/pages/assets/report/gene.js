// One gene and output: how its prediction adds up, and its strongest regulators.

function oneGene(numbers) {
  const controls = document.getElementById("one-controls");
  const title = document.getElementById("one-title");
  if (!data.detail) {
    for (const id of ["account", "across", "places"])
      document.getElementById(id).append(make("p", { className: "empty" }, "Nothing to show."));
    return { show() {} };
  }
  const update = () => show(Number(gene.select.value), Number(output.select.value));
  const gene = choice(
    data.level === "gene" ? "Gene" : "Transcript",
    genes.slice(0, data.detail).map((g) => [String(g.i), g.full]),
    update,
  );
  const output = outputChoice("Output", update);
  const step = (by) =>
    show((Number(gene.select.value) + by + data.detail) % data.detail, Number(output.select.value));
  const back = make("button", { type: "button", onclick: () => step(-1) }, "‹ Previous");
  const next = make("button", { type: "button", onclick: () => step(1) }, "Next ›");
  const file = (what) => `${slug}.${current.gene.name}.${current.output.name}.${what}.tsv`;
  const savePlaces = saveButton(
    () => file("positions"),
    () => placeRows(),
  );
  savePlaces.textContent = "Save positions as TSV";
  savePlaces.classList.add("push");
  savePlaces.hidden = !data.positions;
  back.disabled = next.disabled = data.detail < 2;
  controls.append(gene.node, back, next, output.node, savePlaces);
  const read = reader(numbers);
  const table = new DataTable(document.getElementById("one-table"), {
    label: "strongest regulators",
    noun: "regulator",
    file: () => file("strongest"),
    columns: [],
    size: data.perOutput,
  });
  let current = null;
  const placeRows = () => [
    [
      `${data.level}_id`,
      "symbol",
      "output",
      "class",
      "regulator",
      "side",
      "start (0-based)",
      "end (exclusive)",
      `score (${current.unit})`,
    ],
    ...current.top.flatMap((entry) =>
      entry.places.map(({ onRna, bin, score }) => [
        current.gene.id,
        current.gene.symbol,
        current.output.name,
        entry.of.name,
        entry.name,
        onRna ? "rna" : "promoter",
        ...edges(onRna, bin, current.gene),
        exact(score),
      ]),
    ),
  ];
  const show = (g, o, scroll = false) => {
    gene.select.value = String(g);
    output.select.value = String(o);
    current = { ...read(g, o), gene: genes[g], output: outputs[o], unit: outputs[o].unit };
    const { prediction, unit } = current;
    const rho = outputs[o].rho;
    title.replaceChildren(
      make("b", {}, genes[g].full),
      ` · RNA of ${genes[g].rnaLength.toLocaleString("en")} nt`,
      ` · predicted in ${outputs[o].title}: `,
      make("b", {}, `${signed(prediction)} ${unit}`),
      rho === null ? "" : ` · ρ on unseen genes in this output: ${decimals(rho, 2)}`,
    );
    account(current);
    across(numbers, g, o, (other) => show(g, other));
    places(current);
    table.setRows(current.top, [
      { title: "Rank", number: true, rank: true, key: (row) => row.rank },
      { title: "Regulator", key: (row) => row.name },
      { title: "Class", key: (row) => row.of.name, node: (row) => classMark(row.of) },
      {
        title: "Score",
        unit,
        number: true,
        key: (row) => row.score,
        text: (row) => signed(row.score, 4),
      },
      ...(data.positions
        ? [{ title: "Bins with a score", number: true, key: (row) => row.places.length }]
        : []),
    ]);
    if (scroll) document.getElementById("one").scrollIntoView();
  };
  const values = (output) => numbers.prediction[output.i];
  show(
    0,
    changes.length
      ? changes.reduce((best, other) => (values(other) > values(best) ? other : best)).i
      : 0,
  );
  addEventListener("resize", debounced(update));
  return { show };
}

const PART_NAMES = { TF: "TFs", RBP: "RBPs", miRNA: "miRNAs", mask: "RNA length and window" };

function account({ sums, prediction, output, unit, gene }) {
  const host = document.getElementById("account");
  const parts = sums.map(({ of, value }) => ({
    name: PART_NAMES[of.name] ?? of.name,
    value,
    colour: of.colour,
    tip: `${PART_NAMES[of.name] ?? of.name}: ${signed(value, 4)} ${unit}`,
  }));
  waterfall(host, {
    reference: output.reference,
    parts,
    prediction,
    unit,
    label: `${gene.name}, ${output.title}: reference, scores by class, prediction`,
  });
  const terms = parts.map(
    ({ value }) => `${value < 0 ? "−" : "+"} ${decimals(Math.abs(value), 3)}`,
  );
  const delta = prediction - output.reference - sums.reduce((sum, { value }) => sum + value, 0);
  const sentences = [
    `Reference ${signed(output.reference)} ${terms.join(" ")} = ${signed(prediction)} ${unit}.`,
    `Prediction − reference − sum of scores: ${delta.toExponential(0).replaceAll("-", "−")},`,
    "the rounding of arithmetic.",
    `${PART_NAMES.mask}: what the length of the RNA itself adds, without any site.`,
    data.background
      ? `The reference is the mean prediction of ${count(data.background, data.level)}.`
      : "The reference is the prediction without any sites.",
  ];
  host.append(make("p", { className: "small" }, sentences.join(" ")));
}

// Predictions of one gene in all outputs of the unit, largest first.
function across({ prediction }, g, o, pick) {
  const host = document.getElementById("across");
  const list = outputs.filter((output) => output.unit === outputs[o].unit);
  const values = list
    .map((output) => ({ output, value: prediction[g * outputs.length + output.i] }))
    .sort((a, b) => b.value - a.value);
  const { unit } = outputs[o];
  if (list.length <= 12) {
    bars(
      host,
      values.map(({ output, value }) => ({
        name: output.title,
        value,
        output,
        colour: output.i === o ? "#0b5c8a" : "#a9bccb",
        tip: `${output.title}: ${signed(value)} ${unit}`,
      })),
      {
        label: "Predictions in all outputs",
        unit,
        digits: 2,
        onPick: (item) => pick(item.output.i),
      },
    );
    return;
  }
  const width = Math.max(host.clientWidth, 300);
  const height = 170;
  const low = Math.min(0, ...values.map(({ value }) => value));
  const high = Math.max(0, ...values.map(({ value }) => value));
  const y = (value) => 14 + ((high - value) / (high - low || 1)) * (height - 28);
  const left = 52;
  const each = (width - left - 4) / values.length;
  const marks = values.map(({ output, value }, i) => {
    const bar = draw(
      "g",
      { class: "pick", "data-tip": `${output.title}: ${signed(value)} ${unit}\nClick to choose` },
      draw("rect", { x: left + i * each, y: 0, width: each, height, fill: "transparent" }),
      draw("rect", {
        x: left + i * each + 0.5,
        y: Math.min(y(0), y(value)),
        width: Math.max(each - 1, 1),
        height: Math.max(Math.abs(y(value) - y(0)), 0.8),
        fill: output.i === o ? "#0b5c8a" : "#a9bccb",
      }),
    );
    bar.addEventListener("click", () => pick(output.i));
    return bar;
  });
  const at = values.findIndex(({ output }) => output.i === o);
  const ticks = [...new Set([high, 0, low])].map((value) =>
    draw(
      "text",
      { x: left - 6, y: y(value) + 4, "text-anchor": "end", class: "soft" },
      signed(value, 2),
    ),
  );
  const end = (i) => `${values.at(i).output.title} ${signed(values.at(i).value, 2)}`;
  host.replaceChildren(
    draw(
      "svg",
      {
        width,
        height,
        role: "img",
        "aria-label": `Predictions in ${list.length} outputs, largest first`,
      },
      ...ticks,
      ...marks,
      draw("line", { x1: left, x2: width, y1: y(0), y2: y(0), stroke: "#1b2430" }),
    ),
    make(
      "p",
      { className: "small" },
      `${unit}, largest first. Highest: ${end(0)}; lowest: ${end(-1)}; `,
      `${outputs[o].title} is number ${at + 1} of ${list.length}.`,
    ),
  );
}
