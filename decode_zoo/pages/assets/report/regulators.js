// Regulators by mean score, as bars, a table and a heat map.

function regulatorSection({ mean, meanAbs, present }) {
  const n = outputs.length;
  // Averages over the outputs of one unit.
  const average = (array, regulator, list) =>
    list.reduce((sum, output) => sum + array[regulator * n + output.i], 0) / list.length;
  const units = [...new Set(outputs.map((output) => output.unit))].map((unit) => ({
    unit,
    list: outputs.filter((output) => output.unit === unit),
  }));
  const several = units.filter(({ list }) => list.length > 1);
  const overall = several.map(({ unit, list }, i) => [
    `all${i}`,
    `mean of ${list.length} outputs${several.length > 1 ? `, ${unit}` : ""}`,
    { unit, list },
  ]);
  const chosen = () => {
    const found = overall.find(([key]) => key === output.select.value);
    return found
      ? found[2]
      : { unit: outputs[output.select.value].unit, list: [outputs[output.select.value]] };
  };
  const wanted = () =>
    regulators.filter(
      (regulator) =>
        present[regulator.i] && (!kind.select.value || regulator.of.name === kind.select.value),
    );
  let chart = () => {};
  const update = () => {
    const { unit, list } = chosen();
    const rows = wanted().map((regulator) => ({
      ...regulator,
      mean: average(mean, regulator.i, list),
      size: average(meanAbs, regulator.i, list),
      genes: present[regulator.i],
    }));
    const key = measure.select.value;
    const strongest = [...rows].sort((a, b) => Math.abs(b[key]) - Math.abs(a[key]));
    const title = list.length === 1 ? list[0].title : `mean of ${list.length} outputs`;
    const words = measure.select.selectedOptions[0].textContent;
    heading.textContent = !rows.length
      ? ""
      : `Top ${Math.min(20, rows.length)} of ${rows.length} by ${words}, ${title}`;
    chart = () => {
      if (!rows.length) {
        bar.replaceChildren(make("p", { className: "empty" }, "No regulator has a score."));
        return;
      }
      bars(
        bar,
        strongest.slice(0, 20).map((row) => ({
          name: row.name,
          value: row[key],
          colour: row.of.colour,
          tip: [
            `${row.name} (${row.of.name}), ${title}`,
            `mean score ${signed(row.mean, 4)} ${unit}`,
            `mean |score| ${decimals(row.size, 4)} ${unit}`,
            `sites in ${count(row.genes, data.level)}`,
          ].join("\n"),
        })),
        {
          label: `${words}, ${title}`,
          unit: `${words}, ${unit}`,
          print: key === "size" ? decimals : signed,
        },
      );
    };
    chart();
    table.setRows(rows, columns(unit));
  };
  const columns = (unit) => [
    { title: "Regulator", key: (row) => row.name },
    { title: "Class", key: (row) => row.of.name, node: (row) => classMark(row.of) },
    {
      title: "Mean score",
      unit,
      number: true,
      key: (row) => row.mean,
      text: (row) => signed(row.mean, 4),
    },
    {
      title: "Mean |score|",
      unit,
      number: true,
      key: (row) => row.size,
      text: (row) => decimals(row.size, 4),
    },
    { title: data.background ? `Not as reference` : `With sites`, unit: `${data.level}s`, number: true, key: (row) => row.genes },
  ];
  const output = outputChoice(
    "Output",
    update,
    overall.map(([key, text]) => [key, text]),
  );
  const shownClasses = classes.filter(
    ({ name }) => name !== "mask" && regulators.some((regulator) => regulator.of.name === name),
  );
  const kind = choice(
    "Class",
    [["", "all"], ...shownClasses.map(({ name }) => [name, name])],
    () => {
      update();
      matrix();
    },
  );
  const measure = choice(
    "Chart by",
    [
      ["size", "mean |score|"],
      ["mean", "mean score"],
    ],
    update,
  );
  const keys = make(
    "span",
    {},
    ...shownClasses.map((of) => make("span", {}, classMark(of), " \u2002")),
  );
  document.getElementById("regulator-controls").append(output.node, kind.node, measure.node, keys);
  const bar = document.getElementById("regulator-bars");
  const heading = document.getElementById("regulator-title");
  const table = new DataTable(document.getElementById("regulator-table"), {
    label: "regulators",
    noun: "regulator",
    file: () => {
      const { list } = chosen();
      return `${slug}.regulators.${list.length === 1 ? list[0].name : "mean"}.tsv`;
    },
    columns: columns(""),
    sort: { column: 3, down: true },
  });
  const host = document.getElementById("regulator-map");
  const matrix = () => {
    const main = changes.length ? changes : outputs;
    const rows = wanted()
      .map((regulator) => ({ ...regulator, size: average(meanAbs, regulator.i, main) }))
      .sort((a, b) => b.size - a.size)
      .slice(0, 40);
    if (!rows.length) {
      host.replaceChildren(make("p", { className: "empty" }, "No regulator has a score."));
      return;
    }
    const value = (row, column) => mean[rows[row].i * n + column];
    // Fold changes last, as in the heat map of predictions.
    const isChange = (unit) => changes.some((other) => other.unit === unit);
    const groups = [...units]
      .sort((a, b) => isChange(a.unit) - isChange(b.unit))
      .map(({ unit, list }) => {
        const columns = data.outputOrder.filter((i) => list.includes(outputs[i]));
        const all = columns.flatMap((i) => rows.map((_, row) => value(row, i)));
        return { columns, scale: Scale.diverging(all, unit) };
      });
    const holder = make("div");
    const map = new HeatMap(holder, {
      label: "Mean scores of regulators",
      rows: rows.map((row) => row.name),
      columns: outputs.map((o) => o.title),
      groups,
      value,
      tell: (row, column) => {
        const { name, of } = rows[row];
        const { title, unit } = outputs[column];
        return `${name} (${of.name}) · ${title}: mean score ${signed(value(row, column), 4)} ${unit}`;
      },
      pick: (row, column) => map.pickColumn(column),
      pickRow: (row) => {
        for (const group of groups) group.columns.sort((a, b) => value(row, b) - value(row, a));
        map.set({ at: null });
      },
      pickColumn: (column) =>
        map.set({
          order: rows.map((_, i) => i).sort((a, b) => value(b, column) - value(a, column)),
          at: null,
        }),
    });
    const legends = make(
      "div",
      { className: "legends" },
      ...groups.map((group) => group.scale.legend(`mean score, ${group.scale.unit}`)),
    );
    host.replaceChildren(holder, legends);
  };
  update();
  matrix();
  addEventListener(
    "resize",
    debounced(() => chart()),
  );
}
